//! The programs that the lab and the tests start.

use std::path::{Path, PathBuf};

use xtask_toolchain::Surroundings;

use crate::process;

/// A program, and the package that brings it.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// What is typed.
    pub name: &'static str,
    /// Debian's and Ubuntu's package.
    pub package: &'static str,
    /// What makes it print its version, if anything does.
    version: Option<&'static str>,
    /// What it is for.
    pub purpose: &'static str,
}

/// The module that lets nginx pass on TCP.
pub const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// What the lab and the network tests start.
pub const LAB: [Tool; 12] = [
    Tool { name: "nginx", package: "nginx-light", version: Some("-v"), purpose: "the backends" },
    Tool { name: "ip", package: "iproute2", version: Some("-V"), purpose: "network namespaces" },
    Tool { name: "nsenter", package: "util-linux", version: Some("--version"), purpose: "entering a node" },
    Tool { name: "ping", package: "iputils-ping", version: Some("-V"), purpose: "probes" },
    Tool { name: "arping", package: "iputils-arping", version: Some("-V"), purpose: "ARP probes" },
    Tool { name: "tcpdump", package: "tcpdump", version: Some("--version"), purpose: "looking at packets" },
    Tool { name: "keepalived", package: "keepalived", version: Some("--version"), purpose: "a VRRP peer" },
    Tool { name: "curl", package: "curl", version: Some("--version"), purpose: "HTTP clients" },
    Tool { name: "ethtool", package: "ethtool", version: Some("--version"), purpose: "checksum offload" },
    Tool { name: "sysctl", package: "procps", version: Some("--version"), purpose: "settings of a node" },
    Tool { name: "ps", package: "procps", version: Some("--version"), purpose: "processes of a node" },
    Tool { name: "pidof", package: "sysvinit-utils", version: None, purpose: "the tutorial's track script" },
];

/// What judges our packets in the network tests, or answers them, and nothing else needs.
pub const TESTS: [Tool; 2] = [
    Tool { name: "tshark", package: "tshark", version: Some("--version"), purpose: "judging packets" },
    Tool { name: "bfdd", package: "frr", version: Some("--version"), purpose: "a BFD peer" },
];

impl Tool {
    /// Whether it is installed.
    pub fn is_there(&self) -> bool {
        match self.package {
            // nginx itself comes with another package.
            "libnginx-mod-stream" => Path::new(NGINX_STREAM).exists(),
            _ => find(self.name).is_some(),
        }
    }

    /// The first word of its version's line that has a digit, for instance `1.22.1`.
    pub fn version(&self) -> Option<String> {
        version_in(&process::ask(self.name_or_path().as_str(), &[self.version?])?)
    }

    fn name_or_path(&self) -> String {
        find(self.name).map_or_else(|| self.name.to_owned(), |path| path.to_string_lossy().into_owned())
    }
}

/// Where a program is: in `PATH`, or where Debian keeps an administrator's programs, which ordinary users' `PATH` lacks, and
/// FRR's.
pub fn find(name: &str) -> Option<PathBuf> {
    let mut surroundings = Surroundings::from_environment();
    surroundings.path.extend(["/usr/sbin", "/sbin", "/usr/lib/frr"].map(PathBuf::from));
    surroundings.in_path(name)
}

/// What the benchmark of whole forwarding compares with, or measures by.
pub const BENCH: [Tool; 5] = [
    Tool { name: "nft", package: "nftables", version: Some("--version"), purpose: "DNAT to compare with" },
    Tool { name: "ipvsadm", package: "ipvsadm", version: Some("--version"), purpose: "IPVS to compare with" },
    Tool { name: "haproxy", package: "haproxy", version: Some("-v"), purpose: "a proxy to compare with" },
    Tool { name: "wrk", package: "wrk", version: None, purpose: "HTTP clients that measure" },
    Tool {
        name: "nginx",
        package: "libnginx-mod-stream",
        version: Some("-v"),
        purpose: "a proxy to compare with",
    },
];

/// Those of some tools that are not there.
pub fn missing(tools: &[Tool]) -> Vec<Tool> {
    tools.iter().copied().filter(|tool| !tool.is_there()).collect()
}

/// The version of one of the tools.
pub fn version(name: &str) -> Option<String> {
    LAB.iter().chain(&TESTS).chain(&BENCH).find(|tool| tool.name == name)?.version()
}

/// The packages of some tools, each once, in the order of the tools.
pub fn packages(tools: &[Tool]) -> Vec<&'static str> {
    let mut packages: Vec<&'static str> = Vec::new();
    for tool in tools {
        if !packages.contains(&tool.package) {
            packages.push(tool.package);
        }
    }
    packages
}

fn version_in(text: &str) -> Option<String> {
    let line = text.lines().next()?;
    let words = line.split([' ', ',', '/']).filter(|word| !word.is_empty());
    words
        // `iproute2-6.1.0` names the version after a hyphen; that of `2.6.12-1+deb12u4` is before it.
        .map(|word| match word.split_once('-') {
            Some((name, version)) if name.starts_with(|first: char| first.is_ascii_alphabetic()) => version,
            Some((version, _)) => version,
            None => word,
        })
        .map(|word| word.trim_start_matches(|first: char| !first.is_ascii_digit()))
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_the_programs_say() {
        for (text, expected) in [
            ("nginx version: nginx/1.22.1", "1.22.1"),
            ("ip utility, iproute2-6.1.0, libbpf 1.1.2", "6.1.0"),
            ("ping from iputils 20221126", "20221126"),
            ("tcpdump version 4.99.3\nlibpcap version 1.10.3", "4.99.3"),
            ("Keepalived v2.2.7 (01/16,2022)", "2.2.7"),
            ("curl 7.88.1 (x86_64-pc-linux-gnu) libcurl/7.88.1", "7.88.1"),
            ("nsenter from util-linux 2.38.1", "2.38.1"),
            ("sysctl from procps-ng 4.0.2", "4.0.2"),
            ("HAProxy version 2.6.12-1+deb12u4 2026/04/01 - https://haproxy.org/", "2.6.12"),
            ("nftables v1.0.6 (Lester Gooch #5)", "1.0.6"),
            ("ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)", "1.31"),
        ] {
            assert_eq!(version_in(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(version_in("no number here"), None);
    }

    #[test]
    fn a_package_of_two_tools_is_named_once() {
        let tools: Vec<Tool> = LAB.into_iter().filter(|tool| tool.package == "procps").collect();
        assert_eq!(tools.len(), 2);
        assert_eq!(packages(&tools), ["procps"]);
    }
}
