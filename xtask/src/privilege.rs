//! Whether we may act as root, and how.

use std::{
    env, fs,
    io::{self, IsTerminal as _},
    process::{Command, Stdio},
};

use crate::{Error, process, tools};

/// The way to root's rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// We are root.
    Root,
    /// `sudo` works without asking.
    Sudo,
    /// `sudo` is there, and somebody is at the terminal to type the password.
    SudoAsks,
    /// No way.
    None,
}

impl Privilege {
    /// Finds out without asking anybody.
    pub fn detect() -> Self {
        if nix::unistd::geteuid().is_root() {
            return Self::Root;
        }
        if tools::find("sudo").is_none() {
            return Self::None;
        }
        if process::ask("sudo", &["-n", "true"]).is_some() {
            return Self::Sudo;
        }
        let somebody_there =
            io::stdin().is_terminal() && io::stderr().is_terminal() && env::var_os("CI").is_none();
        if somebody_there { Self::SudoAsks } else { Self::None }
    }

    /// Whether there is a way.
    pub fn available(self) -> bool {
        self != Self::None
    }

    /// Asks for the password if one is needed, before a spinner hides the question.
    pub fn acquire(self) -> Result<(), Error> {
        if self == Self::SudoAsks {
            process::run(Command::new("sudo").arg("-v"), "sudo")?;
        }
        Ok(())
    }

    /// A command that runs as root.
    pub fn command(self, program: &str) -> Command {
        match self {
            Self::Root | Self::None => Command::new(program),
            Self::Sudo | Self::SudoAsks => {
                let mut command = Command::new("sudo");
                command.args(["--", program]).stdin(Stdio::inherit());
                command
            }
        }
    }
}

/// The capabilities we look at, with their numbers (`linux/capability.h`) and what `lb` needs them for.
pub const CAPABILITIES: [Capability; 8] = [
    Capability { name: "CAP_BPF", number: 39, required: true, purpose: "loading the XDP program" },
    Capability { name: "CAP_NET_ADMIN", number: 12, required: true, purpose: "attaching it, moving the VIP" },
    Capability {
        name: "CAP_NET_RAW",
        number: 13,
        required: true,
        purpose: "sending adverts and gratuitous ARP",
    },
    Capability {
        name: "CAP_SYS_ADMIN",
        number: 21,
        required: true,
        purpose: "network namespaces of the lab",
    },
    Capability { name: "CAP_PERFMON", number: 38, required: false, purpose: "a program without mitigations" },
    Capability {
        name: "CAP_SYS_RESOURCE",
        number: 24,
        required: false,
        purpose: "map memory before Linux 5.11",
    },
    Capability { name: "CAP_SYS_NICE", number: 23, required: false, purpose: "adverts in real time" },
    Capability { name: "CAP_IPC_LOCK", number: 14, required: false, purpose: "memory that is never on disk" },
];

/// One capability.
#[derive(Clone, Copy, Debug)]
pub struct Capability {
    /// As in `capabilities(7)`.
    pub name: &'static str,
    number: u32,
    /// Whether the tests of tiers 2 and 3 need it.
    pub required: bool,
    /// What for.
    pub purpose: &'static str,
}

impl Capability {
    /// Whether a set has it.
    pub fn is_in(self, set: u64) -> bool {
        set & (1 << self.number) != 0
    }
}

/// This process's effective capabilities; 0 where `/proc` is not there to tell.
pub fn effective() -> u64 {
    fs::read_to_string("/proc/self/status").ok().and_then(|status| parse_effective(&status)).unwrap_or(0)
}

fn parse_effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// The names of the required ones that a set lacks.
pub fn lacking(set: u64) -> Vec<&'static str> {
    CAPABILITIES
        .iter()
        .filter(|capability| capability.required && !capability.is_in(set))
        .map(|capability| capability.name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_status_file() {
        let status = "Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t000001fffeffffff\nSeccomp:\t0\n";
        let set = parse_effective(status).expect("the line is there");
        assert!(lacking(set).is_empty());
        let resource = CAPABILITIES.iter().find(|capability| capability.name == "CAP_SYS_RESOURCE");
        assert!(!resource.expect("it is in the table").is_in(set), "bit 24 is clear");
        assert_eq!(lacking(0), ["CAP_BPF", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN"]);
        assert_eq!(parse_effective("Name:\tx\n"), None);
    }
}
