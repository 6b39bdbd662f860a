//! Services, their backends and checks.

use std::{net::IpAddr, ops::Range, path::PathBuf, time::Duration};

use toml::{Spanned, de::DeValue};

use super::{
    DAY,
    track::{RawTiming, SHORTEST_INTERVAL, timing},
};
use crate::config::{
    model::{Mode, Protocol},
    ports::Ports,
    read::{self, Reader},
    value,
};

/// The control task looks at flows every few seconds; shorter windows and timeouts would mean nothing.
const SHORTEST_WINDOW: Duration = Duration::from_secs(1);

pub(in crate::config) struct RawService {
    pub(in crate::config) name: Option<Spanned<String>>,
    pub(in crate::config) vip: Option<Spanned<IpAddr>>,
    pub(in crate::config) ports: Option<Spanned<Ports>>,
    pub(in crate::config) protocol: Option<Spanned<Protocol>>,
    pub(in crate::config) ring_size: Option<Spanned<u32>>,
    pub(in crate::config) learning_window: Option<Spanned<Duration>>,
    pub(in crate::config) flow_timeout: Option<Spanned<Duration>>,
    pub(in crate::config) standalone: Option<Spanned<bool>>,
    pub(in crate::config) backend_only: Option<Spanned<bool>>,
    pub(in crate::config) check: Option<RawCheckChoice>,
    pub(in crate::config) quorum: Option<Spanned<u32>>,
    pub(in crate::config) notify: Option<Spanned<RawHealthNotify>>,
    pub(in crate::config) backends: Vec<Spanned<RawBackend>>,
}

pub(in crate::config) struct RawBackend {
    pub(in crate::config) address: Option<Spanned<IpAddr>>,
    pub(in crate::config) port: Option<Spanned<u16>>,
    pub(in crate::config) mode: Option<Spanned<Mode>>,
    pub(in crate::config) weight: Option<Spanned<u32>>,
    pub(in crate::config) check: Option<RawCheckChoice>,
    pub(in crate::config) backup: Option<Spanned<bool>>,
    pub(in crate::config) keep_connections: Option<Spanned<bool>>,
    pub(in crate::config) notify: Option<Spanned<RawHealthNotify>>,
    /// No mistake in it, so what is missing has its default.
    pub(in crate::config) sound: bool,
}

pub(in crate::config) struct RawHealthNotify {
    pub(in crate::config) up: Option<Spanned<Vec<String>>>,
    pub(in crate::config) down: Option<Spanned<Vec<String>>>,
    pub(in crate::config) user: Option<Spanned<String>>,
    pub(in crate::config) timeout: Option<Spanned<Duration>>,
}

pub(in crate::config) enum RawCheckChoice {
    /// `"none"`.
    None,
    /// A table.
    Check(Box<RawCheck>),
}

pub(in crate::config) struct RawCheck {
    /// The whole table.
    pub(in crate::config) span: Range<usize>,
    pub(in crate::config) tcp: Option<Spanned<bool>>,
    pub(in crate::config) http: Option<Spanned<String>>,
    pub(in crate::config) https: Option<Spanned<String>>,
    pub(in crate::config) command: Option<Spanned<Vec<String>>>,
    /// Of `http` and `https`.
    pub(in crate::config) host: Option<Spanned<String>>,
    /// Of `http` and `https`.
    pub(in crate::config) status: Option<Spanned<Vec<(u16, u16)>>>,
    /// Of `http` and `https`.
    pub(in crate::config) md5: Option<Spanned<[u8; 16]>>,
    /// Of `https`.
    pub(in crate::config) sni: Option<Spanned<String>>,
    /// Of `https`.
    pub(in crate::config) ca: Option<Spanned<PathBuf>>,
    /// Of `command`.
    pub(in crate::config) user: Option<Spanned<String>>,
    /// Of `command`.
    pub(in crate::config) exit: Option<Spanned<Vec<(u16, u16)>>>,
    pub(in crate::config) port: Option<Spanned<u16>>,
    pub(in crate::config) timing: RawTiming,
    pub(in crate::config) fast_interval: Option<Spanned<Duration>>,
    /// No mistake in it, so what is missing was not written.
    pub(in crate::config) sound: bool,
}

pub(super) fn service(table: &mut Reader<'_, '_>) -> RawService {
    RawService {
        name: table.required("name", "name = \"web\", for logs and status", value::name),
        vip: table.required("vip", "vip = \"192.0.2.4\"", value::reachable),
        ports: table.required("port", "port = 80", value::ports),
        protocol: table.required(
            "protocol",
            "protocol = \"tcp\"",
            value::choice(&[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)]),
        ),
        ring_size: table.optional("ring_size", value::number(101..=16_777_213)),
        learning_window: table.optional("learning_window", value::duration(SHORTEST_WINDOW..=DAY)),
        flow_timeout: table.optional("flow_timeout", value::duration(SHORTEST_WINDOW..=DAY)),
        standalone: table.optional("standalone", value::boolean),
        backend_only: table.optional("backend_only", value::boolean),
        check: check(table),
        quorum: table.optional("quorum", value::number(1..=u32::MAX.into())),
        notify: notify(table, "[service.notify]"),
        backends: table.tables("backend", "[[service.backend]]", backend),
    }
}

fn backend(table: &mut Reader<'_, '_>) -> RawBackend {
    let mistakes = table.mistakes();
    let modes = [
        ("local", Mode::Local),
        ("dr", Mode::Dr),
        ("ipip", Mode::Ipip),
        ("gue", Mode::Gue),
        ("nat", Mode::Nat),
    ];
    RawBackend {
        address: table.required("address", "address = \"192.0.2.10\"", value::address),
        port: table.optional("port", value::number(1..=65_535)),
        mode: table.required(
            "mode",
            "mode = \"dr\", \"ipip\", \"gue\", \"nat\" or \"local\": how packets get there",
            value::choice(&modes),
        ),
        weight: table.optional("weight", value::number(0..=65_535)),
        check: check(table),
        backup: table.optional("backup", value::boolean),
        keep_connections: table.optional("keep_connections", value::boolean),
        notify: notify(table, "[service.backend.notify]"),
        sound: mistakes == table.mistakes(),
    }
}

fn notify<'t>(table: &mut Reader<'t, '_>, what: &'t str) -> Option<Spanned<RawHealthNotify>> {
    table.table("notify", what, |notify| RawHealthNotify {
        up: notify.optional("up", value::command),
        down: notify.optional("down", value::command),
        user: notify.optional("user", value::name),
        timeout: notify.optional("timeout", value::duration(Duration::from_millis(1)..=DAY)),
    })
}

fn check(table: &mut Reader<'_, '_>) -> Option<RawCheckChoice> {
    let value = table.value("check")?;
    match value.get_ref() {
        DeValue::Table(inner) => {
            let span = value.span();
            let mistakes = table.mistakes();
            let mut raw = table.inner("check", inner, span.clone(), |check| RawCheck {
                span,
                tcp: check.optional("tcp", value::boolean),
                http: check.optional("http", value::http_path),
                https: check.optional("https", value::http_path),
                command: check.optional("command", value::command),
                host: check.optional("host", value::host),
                status: check.optional("status", value::statuses),
                md5: check.optional("md5", value::md5),
                sni: check.optional("sni", value::server_name),
                ca: check.optional("ca", value::file),
                user: check.optional("user", value::name),
                exit: check.optional("exit", value::exits),
                port: check.optional("port", value::number(1..=65_535)),
                timing: timing(check),
                fast_interval: check.optional("fast_interval", value::duration(SHORTEST_INTERVAL..=DAY)),
                sound: false,
            });
            raw.sound = mistakes == table.mistakes();
            Some(RawCheckChoice::Check(Box::new(raw)))
        }
        DeValue::String(word) if word == "none" => Some(RawCheckChoice::None),
        _ => {
            table.push(
                read::wrong_type("check", value, "a table such as { tcp = true } or { http = \"/\" }")
                    .help("or \"none\": the backend always counts as up"),
            );
            None
        }
    }
}
