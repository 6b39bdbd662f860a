//! Whether this process may load XDP programs, asked before anything is tried.

use super::DataplaneError;
use crate::rights;

const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Checks the effective capabilities of the process.
pub(super) fn check(what: &'static str) -> Result<(), DataplaneError> {
    // Without a readable /proc nothing is known; the kernel will say what it thinks when the program is loaded.
    match rights::effective().and_then(missing) {
        None => Ok(()),
        Some(capabilities) => Err(DataplaneError::Rights { what, capabilities }),
    }
}

/// What a set of capabilities lacks. CAP_PERFMON is among them because the verifier lets nobody else compute where a
/// header behind IPv4 options begins.
fn missing(effective: u64) -> Option<&'static str> {
    let has = |capability: u32| effective >> capability & 1 == 1;
    let bpf = has(CAP_BPF) || has(CAP_SYS_ADMIN);
    let perfmon = has(CAP_PERFMON) || has(CAP_SYS_ADMIN);
    match (bpf, perfmon, has(CAP_NET_ADMIN)) {
        (true, true, true) => None,
        (false, true, true) => Some("CAP_BPF"),
        (true, false, true) => Some("CAP_PERFMON"),
        (true, true, false) => Some("CAP_NET_ADMIN"),
        (false, false, true) => Some("CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN)"),
        (false, true, false) => Some("CAP_BPF and CAP_NET_ADMIN"),
        (true, false, false) => Some("CAP_PERFMON and CAP_NET_ADMIN"),
        (false, false, false) => Some("CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_missing() {
        let (bpf, perfmon) = (1 << CAP_BPF, 1 << CAP_PERFMON);
        let (net, sys) = (1 << CAP_NET_ADMIN, 1 << CAP_SYS_ADMIN);
        for (set, expected) in [
            (bpf | perfmon | net, None),
            (sys | net, None),
            (u64::MAX, None),
            (sys, Some("CAP_NET_ADMIN")),
            (bpf | perfmon, Some("CAP_NET_ADMIN")),
            (bpf | net, Some("CAP_PERFMON")),
            (perfmon | net, Some("CAP_BPF")),
            (net, Some("CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN)")),
            (0, Some("CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN")),
        ] {
            assert_eq!(missing(set), expected, "{set:x}");
        }
    }
}
