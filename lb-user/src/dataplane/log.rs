//! Packet-level debugging: what the XDP program logs, as events of `tracing`.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr},
};

use aya_log::EbpfLogger;
use lb_common::Verdict;
use log::{Level, Log, Metadata, Record};
use tokio::{
    io::{Interest, unix::AsyncFd},
    task::JoinHandle,
};

use super::{DataplaneError, XdpDataplane};

/// Starts a task that passes the program's log on, until it is aborted. Call it within a tokio runtime, once for a
/// loaded program.
pub fn spawn_packet_log(dataplane: &mut XdpDataplane) -> Result<JoinHandle<()>, DataplaneError> {
    let failed = |error: io::Error| DataplaneError::Map {
        map: "AYA_LOGS",
        operation: "open",
        key: String::new(),
        source: error.into(),
    };
    let logger = EbpfLogger::init_with_logger(&mut dataplane.ebpf, Bridge)
        .map_err(|error| failed(io::Error::other(error)))?;
    // SAFETY: the logger owns its descriptor and gives out the same one until it is dropped with the `AsyncFd`.
    let registered = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
    let mut logger = registered.map_err(|error| failed(error.into()))?;
    Ok(tokio::spawn(async move {
        // An error means that the runtime is going down.
        while let Ok(mut guard) = logger.readable_mut().await {
            guard.get_inner_mut().flush();
            guard.clear_ready();
        }
    }))
}

/// A logger for aya-log that turns its lines into events.
struct Bridge;

impl Log for Bridge {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string();
        let Some(line) = Line::parse(&text) else {
            tracing::warn!(target: "lb::packet", text, "the XDP program logged a line of another format");
            return;
        };
        let Line { verdict, ifindex, source, destination, protocol } = line;
        // The level of an event is part of its place in the code, hence three of them.
        match record.level() {
            Level::Error | Level::Warn => tracing::warn!(
                target: "lb::packet", verdict, ifindex, source, destination, protocol, "packet"
            ),
            Level::Info => tracing::info!(
                target: "lb::packet", verdict, ifindex, source, destination, protocol, "packet"
            ),
            Level::Debug | Level::Trace => tracing::debug!(
                target: "lb::packet", verdict, ifindex, source, destination, protocol, "packet"
            ),
        }
    }

    fn flush(&self) {}
}

/// One line of `lb-ebpf/src/log.rs`.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    verdict: &'static str,
    ifindex: u32,
    source: String,
    destination: String,
    protocol: u8,
}

impl Line {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let mut word = || words.next();
        let verdict: usize = word()?.parse().ok()?;
        let ifindex = word()?.parse().ok()?;
        // The program knows IPv4 addresses as v4-mapped ones.
        let mut end = || {
            let address = word()?.parse::<Ipv6Addr>().ok()?.to_canonical();
            Some(SocketAddr::new(address, word()?.parse().ok()?).to_string())
        };
        let (source, destination) = (end()?, end()?);
        let protocol = word()?.parse().ok()?;
        Some(Self { verdict: Verdict::ALL.get(verdict)?.name(), ifindex, source, destination, protocol })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_lines_of_the_program() {
        let text = format!("{} 2 ::ffff:10.0.0.1 4711 2001:db8::4 80 6", Verdict::Dr as u32);
        assert_eq!(
            Line::parse(&text),
            Some(Line {
                verdict: "dr",
                ifindex: 2,
                source: "10.0.0.1:4711".into(),
                destination: "[2001:db8::4]:80".into(),
                protocol: 6
            })
        );
    }

    #[test]
    fn refuses_other_lines() {
        for text in ["", "hello", "99 2 ::1 1 ::2 2 6", "1 2 ::1 1 ::2 2"] {
            assert_eq!(Line::parse(text), None, "{text}");
        }
    }
}
