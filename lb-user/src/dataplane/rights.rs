//! Whether this process may load XDP programs, asked before anything is tried.

use std::fs;

use super::DataplaneError;

const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;

/// Checks the effective capabilities of the process.
pub(super) fn check(what: &'static str) -> Result<(), DataplaneError> {
    // Without a readable /proc nothing is known; the kernel will say what it thinks when the program is loaded.
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return Ok(()) };
    match effective(&status).and_then(missing) {
        None => Ok(()),
        Some(capabilities) => Err(DataplaneError::Rights { what, capabilities }),
    }
}

/// The set of effective capabilities in the text of `/proc/PID/status`.
fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// What a set of capabilities lacks.
fn missing(effective: u64) -> Option<&'static str> {
    let has = |capability: u32| effective >> capability & 1 == 1;
    match (has(CAP_BPF), has(CAP_NET_ADMIN)) {
        _ if has(CAP_SYS_ADMIN) && has(CAP_NET_ADMIN) => None,
        (true, true) => None,
        (true, false) => Some("CAP_NET_ADMIN"),
        (false, true) => Some("CAP_BPF (or CAP_SYS_ADMIN)"),
        (false, false) => Some("CAP_BPF and CAP_NET_ADMIN"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_missing() {
        let (bpf, net, sys) = (1 << CAP_BPF, 1 << CAP_NET_ADMIN, 1 << CAP_SYS_ADMIN);
        for (set, expected) in [
            (bpf | net, None),
            (sys | net, None),
            (u64::MAX, None),
            (bpf, Some("CAP_NET_ADMIN")),
            (net, Some("CAP_BPF (or CAP_SYS_ADMIN)")),
            (0, Some("CAP_BPF and CAP_NET_ADMIN")),
        ] {
            assert_eq!(missing(set), expected, "{set:x}");
        }
    }

    #[test]
    fn reads_the_effective_set() {
        assert_eq!(effective("CapPrm:\t0\nCapEff:\t0000008000001000\nCapBnd:\t1\n"), Some(0x80_0000_1000));
        assert_eq!(effective("Name:\tlb\n"), None);
    }
}
