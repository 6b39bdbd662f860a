//! The configuration as it is written: every key with its type and its place, nothing compared yet.
//!
//! A value that is missing here, although it must be there, has been reported.

mod bfd;
mod group;
mod placement;
mod router;
mod rule;
mod service;
mod track;

use std::{path::PathBuf, time::Duration};

use ipnet::IpNet;
use toml::{Spanned, de::DeTable};

pub(super) use bfd::RawBfd;
pub(super) use group::{RawNotify, RawSyncGroup};
pub(super) use placement::{RawNodeAddress, RawPlace, RawRoute, RawVirtualMac};
pub(super) use router::{RawAuthentication, RawMulticast, RawRouter, RawUnicast};
pub(super) use rule::RawRule;
pub(super) use service::{RawBackend, RawCheck, RawCheckChoice, RawHealthNotify, RawService};
pub(super) use track::{
    RawEffect, RawTiming, RawTrackFile, RawTrackProcess, RawTrackScript, RawTracking, RawUse,
};

use super::{
    model::{PacketLog, XdpMode},
    read::{self, Reader},
    report::Problem,
    value,
};

const DAY: Duration = Duration::from_hours(24);

pub(super) struct RawConfig {
    pub(super) daemon: RawDaemon,
    pub(super) interfaces: Vec<(Spanned<String>, Option<Spanned<XdpMode>>)>,
    pub(super) virtual_routers: Vec<Spanned<RawRouter>>,
    pub(super) track_scripts: Vec<Spanned<RawTrackScript>>,
    pub(super) track_processes: Vec<Spanned<RawTrackProcess>>,
    pub(super) track_files: Vec<Spanned<RawTrackFile>>,
    pub(super) sync_groups: Vec<Spanned<RawSyncGroup>>,
    pub(super) services: Vec<Spanned<RawService>>,
    pub(super) addresses: Vec<Spanned<RawNodeAddress>>,
    pub(super) routes: Vec<Spanned<RawRoute>>,
    pub(super) rules: Vec<Spanned<RawRule>>,
}

#[derive(Default)]
pub(super) struct RawDaemon {
    pub(super) runtime_dir: Option<Spanned<PathBuf>>,
    pub(super) pin_dir: Option<Spanned<PathBuf>>,
    pub(super) packet_log: Option<Spanned<PacketLog>>,
    pub(super) notify_fifo: Option<Spanned<PathBuf>>,
    pub(super) realtime: Option<Spanned<bool>>,
    pub(super) drain: Option<Spanned<Duration>>,
    pub(super) tunnel_sources: Option<Spanned<Vec<Spanned<IpNet>>>>,
}

pub(super) fn read(document: &Spanned<DeTable<'_>>, problems: &mut Vec<Problem>) -> RawConfig {
    read::table("", document.get_ref(), document.span(), problems, |top| RawConfig {
        daemon: top.table("daemon", "[daemon]", daemon).map(Spanned::into_inner).unwrap_or_default(),
        interfaces: top.named_tables("interface", "[interface.NAME]", |interface| {
            let modes = [("auto", XdpMode::Auto), ("native", XdpMode::Native), ("generic", XdpMode::Generic)];
            interface.optional("xdp", value::choice(&modes))
        }),
        virtual_routers: top.tables("virtual_router", "[[virtual_router]]", router::router),
        track_scripts: top.tables("track_script", "[[track_script]]", track::track_script),
        track_processes: top.tables("track_process", "[[track_process]]", track::track_process),
        track_files: top.tables("track_file", "[[track_file]]", track::track_file),
        sync_groups: top.tables("sync_group", "[[sync_group]]", group::sync_group),
        services: top.tables("service", "[[service]]", service::service),
        addresses: top.tables("address", "[[address]]", placement::node_address),
        routes: top.tables("route", "[[route]]", placement::route),
        rules: top.tables("rule", "[[rule]]", rule::rule),
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
        runtime_dir: table.optional("runtime_dir", value::path),
        pin_dir: table.optional("pin_dir", value::path),
        packet_log: table.optional("packet_log", value::choice(&levels)),
        notify_fifo: table.optional("notify_fifo", value::file),
        realtime: table.optional("realtime", value::boolean),
        drain: table.optional("drain", value::duration(Duration::ZERO..=Duration::from_mins(5))),
        tunnel_sources: table.list("tunnel_sources", value::network),
    }
}
