//! The rights of this process.

use std::fs;

/// The effective capabilities, a bit for each; `None` where /proc cannot be read.
pub(crate) fn effective() -> Option<u64> {
    parse(&fs::read_to_string("/proc/self/status").ok()?)
}

/// The set in the text of `/proc/PID/status`.
fn parse(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_effective_set() {
        assert_eq!(parse("CapPrm:\t0\nCapEff:\t0000008000001000\nCapBnd:\t1\n"), Some(0x80_0000_1000));
        assert_eq!(parse("Name:\tlb\n"), None);
    }
}
