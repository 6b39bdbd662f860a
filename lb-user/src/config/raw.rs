//! The configuration as it is written: every key with its type and its place, nothing compared yet.
//!
//! A value that is missing here, although it must be there, has been reported.

use std::{
    net::{IpAddr, Ipv4Addr},
    ops::{Range, RangeInclusive},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    model::{Mode, PacketLog, Protocol, XdpMode},
    ports::Ports,
    read::{self, Reader},
    report::Problem,
    value,
};

const DAY: Duration = Duration::from_hours(24);
/// Checks and scripts more often than this would load the node more than its traffic.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(1);
/// The control task looks at flows every few seconds; shorter windows and timeouts would mean nothing.
const SHORTEST_WINDOW: Duration = Duration::from_secs(1);
/// Of `rise` and `fall`.
const COUNT: RangeInclusive<i64> = 1..=65_535;

pub(super) struct RawConfig {
    pub(super) daemon: RawDaemon,
    pub(super) interfaces: Vec<(Spanned<String>, Option<Spanned<XdpMode>>)>,
    pub(super) virtual_routers: Vec<Spanned<RawRouter>>,
    pub(super) track_scripts: Vec<Spanned<RawTrackScript>>,
    pub(super) services: Vec<Spanned<RawService>>,
}

#[derive(Default)]
pub(super) struct RawDaemon {
    pub(super) runtime_dir: Option<Spanned<PathBuf>>,
    pub(super) pin_dir: Option<Spanned<PathBuf>>,
    pub(super) packet_log: Option<Spanned<PacketLog>>,
}

pub(super) struct RawRouter {
    pub(super) name: Option<Spanned<String>>,
    pub(super) interface: Option<Spanned<String>>,
    pub(super) router_id: Option<Spanned<u8>>,
    pub(super) priority: Option<Spanned<u8>>,
    pub(super) preempt: Option<Spanned<bool>>,
    pub(super) advert_interval: Option<Spanned<Duration>>,
    pub(super) password: Option<Spanned<[u8; 8]>>,
    pub(super) unicast: Option<Spanned<RawUnicast>>,
    pub(super) vips: Option<Spanned<Vec<Spanned<IpNet>>>>,
    pub(super) track_scripts: Option<Spanned<Vec<Spanned<String>>>>,
}

pub(super) struct RawUnicast {
    pub(super) source: Option<Spanned<Ipv4Addr>>,
    pub(super) peers: Option<Spanned<Vec<Spanned<Ipv4Addr>>>>,
}

pub(super) struct RawTrackScript {
    pub(super) name: Option<Spanned<String>>,
    pub(super) command: Option<Spanned<Vec<String>>>,
    pub(super) timing: RawTiming,
    pub(super) weight: Option<Spanned<i32>>,
    pub(super) user: Option<Spanned<String>>,
}

/// What track scripts and checks have in common.
pub(super) struct RawTiming {
    pub(super) interval: Option<Spanned<Duration>>,
    pub(super) timeout: Option<Spanned<Duration>>,
    pub(super) rise: Option<Spanned<u32>>,
    pub(super) fall: Option<Spanned<u32>>,
    /// No mistake in the above, so what is missing has its default.
    pub(super) sound: bool,
}

pub(super) struct RawService {
    pub(super) name: Option<Spanned<String>>,
    pub(super) vip: Option<Spanned<IpAddr>>,
    pub(super) ports: Option<Spanned<Ports>>,
    pub(super) protocol: Option<Spanned<Protocol>>,
    pub(super) ring_size: Option<Spanned<u32>>,
    pub(super) learning_window: Option<Spanned<Duration>>,
    pub(super) flow_timeout: Option<Spanned<Duration>>,
    pub(super) standalone: Option<Spanned<bool>>,
    pub(super) backend_only: Option<Spanned<bool>>,
    pub(super) check: Option<RawCheckChoice>,
    pub(super) backends: Vec<Spanned<RawBackend>>,
}

pub(super) struct RawBackend {
    pub(super) address: Option<Spanned<IpAddr>>,
    pub(super) port: Option<Spanned<u16>>,
    pub(super) mode: Option<Spanned<Mode>>,
    pub(super) weight: Option<Spanned<u32>>,
    pub(super) check: Option<RawCheckChoice>,
    /// No mistake in it, so what is missing has its default.
    pub(super) sound: bool,
}

pub(super) enum RawCheckChoice {
    /// `"none"`.
    None,
    /// A table.
    Check(Box<RawCheck>),
}

pub(super) struct RawCheck {
    /// The whole table.
    pub(super) span: Range<usize>,
    pub(super) tcp: Option<Spanned<bool>>,
    pub(super) http: Option<Spanned<String>>,
    pub(super) host: Option<Spanned<String>>,
    pub(super) status: Option<Spanned<Vec<(u16, u16)>>>,
    pub(super) port: Option<Spanned<u16>>,
    pub(super) timing: RawTiming,
    /// No mistake in it, so what is missing was not written.
    pub(super) sound: bool,
}

pub(super) fn read(document: &Spanned<DeTable<'_>>, problems: &mut Vec<Problem>) -> RawConfig {
    read::table("", document.get_ref(), document.span(), problems, |top| RawConfig {
        daemon: top.table("daemon", "[daemon]", daemon).map(Spanned::into_inner).unwrap_or_default(),
        interfaces: top.named_tables("interface", "[interface.NAME]", |interface| {
            let modes = [("auto", XdpMode::Auto), ("native", XdpMode::Native), ("generic", XdpMode::Generic)];
            interface.optional("xdp", value::choice(&modes))
        }),
        virtual_routers: top.tables("virtual_router", "[[virtual_router]]", router),
        track_scripts: top.tables("track_script", "[[track_script]]", track_script),
        services: top.tables("service", "[[service]]", service),
    })
}

fn daemon(table: &mut Reader<'_, '_>) -> RawDaemon {
    let levels = [
        ("off", PacketLog::Off),
        ("warn", PacketLog::Warn),
        ("info", PacketLog::Info),
        ("debug", PacketLog::Debug),
    ];
    RawDaemon {
        runtime_dir: table.optional("runtime_dir", value::folder),
        pin_dir: table.optional("pin_dir", value::folder),
        packet_log: table.optional("packet_log", value::choice(&levels)),
    }
}

fn router(table: &mut Reader<'_, '_>) -> RawRouter {
    // Version 2 is the only one there is, but a text may say so.
    let version = table.optional("version", value::number::<u8>(2..=3));
    if let Some(version) = version.filter(|version| *version.get_ref() == 3) {
        table.push(
            Problem::at(version.span(), "VRRP version 3 is not supported yet").expected("2, or no `version`"),
        );
    }
    let unicast = table.table("unicast", "[virtual_router.unicast]", |unicast| RawUnicast {
        source: unicast.required("source", "source = \"192.0.2.2\", this node's address", value::ipv4),
        peers: unicast.required_list(
            "peers",
            "peers = [\"192.0.2.3\"], the addresses of the other nodes",
            value::ipv4,
        ),
    });
    if table.value("unicast").is_none() {
        table.missing(
            "unicast",
            "[virtual_router.unicast] with `source` and `peers`; multicast is not supported yet",
        );
    }
    RawRouter {
        name: table.required("name", "name = \"VI_1\", for logs and status", value::name),
        interface: table.required(
            "interface",
            "interface = \"eth0\", the one the VIPs belong on",
            value::interface,
        ),
        router_id: table.required(
            "router_id",
            "router_id = 33, the number that all its nodes share",
            value::number(1..=255),
        ),
        priority: table.required(
            "priority",
            "priority = 100; the living node with the highest owns the VIPs",
            value::number(1..=254),
        ),
        preempt: table.optional("preempt", value::boolean),
        // Its range is one of whole numbers, so it is checked with the protocol version.
        advert_interval: table.optional("advert_interval", value::duration(Duration::ZERO..=Duration::MAX)),
        password: table.optional("password", value::password),
        unicast,
        vips: table.required_list("vips", "vips = [\"192.0.2.4/24\"]", value::vip),
        track_scripts: table.list("track_scripts", value::string),
    }
}

fn track_script(table: &mut Reader<'_, '_>) -> RawTrackScript {
    RawTrackScript {
        name: table.required("name", "name = \"chk_nginx\", which virtual routers then use", value::name),
        command: table.required("command", "command = \"pidof nginx\"", value::command),
        timing: timing(table),
        weight: table.optional("weight", value::number(-253..=253)),
        user: table.optional("user", value::name),
    }
}

fn timing(table: &mut Reader<'_, '_>) -> RawTiming {
    let mistakes = table.mistakes();
    RawTiming {
        interval: table.optional("interval", value::duration(SHORTEST_INTERVAL..=DAY)),
        timeout: table.optional("timeout", value::duration(SHORTEST_TIMEOUT..=DAY)),
        rise: table.optional("rise", value::number(COUNT)),
        fall: table.optional("fall", value::number(COUNT)),
        sound: mistakes == table.mistakes(),
    }
}

fn service(table: &mut Reader<'_, '_>) -> RawService {
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
        sound: mistakes == table.mistakes(),
    }
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
                host: check.optional("host", value::host),
                status: check.optional("status", value::statuses),
                port: check.optional("port", value::number(1..=65_535)),
                timing: timing(check),
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
