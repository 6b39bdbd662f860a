//! The program's log as events of `tracing`.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use lb::{
    config::PacketLog,
    dataplane::{
        Program::{self, Generic, Native},
        spawn_packet_log,
    },
};
use lb_common::Verdict;

use crate::{
    namespace::isolated,
    packets::{CLIENT, arp, tcp},
    world::{DR, EMPTY, OTHER, VIP, World, build_network},
};

/// What a subscriber writes.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no writer panics").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The verdicts in the events that follow from one packet of each severity.
fn logged(level: PacketLog, programs: &[Program]) -> Vec<&'static str> {
    isolated(|| {
        build_network();
        let mut world = World::logging(level, programs);
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let text = || String::from_utf8(written.0.lock().expect("no writer panics").clone()).expect("text");
        tracing::subscriber::with_default(subscriber, || {
            runtime.block_on(async {
                let task = spawn_packet_log(&mut world.dataplane).expect("the log can be read");
                for &program in programs {
                    world.see(program, &tcp(OTHER, DR).bytes());
                    world.see(program, &tcp(VIP, DR).bytes());
                    world.see(program, &arp(1, CLIENT, VIP));
                }
                // The fault comes last: when it is there, so is all before it.
                world.see(Generic, &tcp(VIP, EMPTY).bytes());
                let last = Verdict::NoBackend.name();
                let wait = async {
                    while level != PacketLog::Off && !text().contains(last) {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                };
                tokio::time::timeout(Duration::from_secs(10), wait).await.expect("the event comes");
                task.abort();
            });
        });
        let text = text();
        if level == PacketLog::Debug {
            assert!(text.contains("source=\"10.0.0.9:40000\" destination=\"172.20.128.4:80\""), "{text}");
        }
        text.lines()
            .map(|line| {
                let name = line.split("verdict=\"").nth(1).and_then(|rest| rest.split('"').next());
                let verdict = Verdict::ALL.iter().find(|verdict| Some(verdict.name()) == name);
                verdict.unwrap_or_else(|| panic!("no verdict in {line}")).name()
            })
            .collect()
    })
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn packets_are_logged_by_severity() {
    assert_eq!(logged(PacketLog::Off, &[Generic]), [""; 0]);
    assert_eq!(logged(PacketLog::Warn, &[Generic]), ["no_backend"]);
    assert_eq!(logged(PacketLog::Info, &[Generic]), ["arp_owner", "no_backend"]);
    assert_eq!(
        logged(PacketLog::Debug, &[Native, Generic]),
        ["dr", "arp_owner", "dr", "arp_owner", "no_backend"]
    );
}
