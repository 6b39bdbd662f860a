//! What the kernel has counted, in other network namespaces than ours.

use std::{fs, io};

use xtask_report::plan::{Port, Sink};

/// How many frames an interface has received.
pub(super) fn received(port: &Port) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{}/net/dev", port.process))?;
    device(&text, &port.interface)
        .ok_or_else(|| io::Error::other(format!("/proc/net/dev has no {}", port.interface)))
}

/// How many packets the IP layer has received.
pub(super) fn taken(process: i32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/net/snmp"))?;
    ip_received(&text).ok_or_else(|| io::Error::other("/proc/net/snmp has no InReceives"))
}

/// What has arrived at a sink so far, as far as the kernel counts it by itself.
pub(super) fn at(sink: &Sink) -> io::Result<u64> {
    match sink {
        Sink::Program(port) | Sink::Interface(port) => received(port),
        Sink::Stack(process) => taken(*process),
    }
}

/// For how many nanoseconds the softirq daemon of a processor has run; 0 where the kernel does not say.
pub(super) struct Daemon(Option<String>);

impl Daemon {
    pub(super) fn of(cpu: usize) -> Self {
        let name = format!("ksoftirqd/{cpu}\n");
        let processes = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
        let found = processes
            .map(|entry| entry.path())
            .find(|path| fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm == name));
        Self(found.map(|path| path.join("schedstat").to_string_lossy().into_owned()))
    }

    pub(super) fn ran(&self) -> u64 {
        let text = self.0.as_ref().and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        text.split_ascii_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
    }
}

fn device(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn ip_received(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let at = lines.next()?.split(' ').position(|name| name == "InReceives")?;
    lines.next()?.split(' ').nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let dev = "Inter-|   Receive\n face |bytes    packets\n    lo:   10     1    0\n  s-lb: 5000    62    0 0\n";
        assert_eq!(device(dev, "s-lb"), Some(62));
        assert_eq!(device(dev, "s"), None);
        let snmp = "Ip: Forwarding DefaultTTL InReceives InHdrErrors\nIp: 1 64 77 0\nIcmp: InMsgs\nIcmp: 3\n";
        assert_eq!(ip_received(snmp), Some(77));
    }
}
