//! What every number depends on: kernel, processor, how busy it is.

use std::{collections::BTreeMap, fs};

use serde::{Deserialize, Serialize};

/// Where a benchmark ran.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// `uname -r`.
    pub kernel: String,
    /// Its name by /proc/cpuinfo.
    pub processor: String,
    /// How many processors there are.
    pub processors: usize,
    /// Whether the processor says that it is a virtual machine's.
    pub virtual_machine: bool,
    /// The three averages of /proc/loadavg before the first round.
    pub load_before: String,
    /// And after the last.
    pub load_after: String,
    /// Of the programs that take part, by name.
    pub versions: BTreeMap<String, String>,
}

impl Machine {
    /// This one; `load_after` is set when all is done.
    pub fn here() -> Self {
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let line = |label: &str| {
            let line = processor.lines().find_map(|line| line.strip_prefix(label))?;
            Some(line.split_once(": ")?.1.trim().to_owned())
        };
        Self {
            kernel: read("/proc/sys/kernel/osrelease"),
            processor: line("model name").unwrap_or_else(|| "unknown processor".to_owned()),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            virtual_machine: line("flags")
                .is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor")),
            load_before: load(),
            load_after: String::new(),
            versions: BTreeMap::new(),
        }
    }
}

/// How busy this machine has been for 1, 5 and 15 minutes.
pub fn load() -> String {
    read("/proc/loadavg").split_ascii_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_kernel_and_a_load() {
        let machine = Machine::here();
        assert!(machine.kernel.starts_with(|first: char| first.is_ascii_digit()), "{machine:?}");
        assert!(machine.processors > 0);
        assert_eq!(load().split(' ').count(), 3);
    }
}
