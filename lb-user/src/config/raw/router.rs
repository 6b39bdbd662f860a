//! Virtual routers.

use std::{net::Ipv4Addr, time::Duration};

use ipnet::IpNet;
use toml::Spanned;

use super::bfd::{self, RawBfd};
use super::{
    group::{RawNotify, notify},
    placement::{self, RawPlace, RawRoute, RawVirtualMac},
    track::{RawTracking, tracking},
};
use crate::config::{read::Reader, report::Problem, value};

/// As much as keepalived takes.
const PREEMPT_DELAY_MAX: Duration = Duration::from_secs(1_000);
const ANNOUNCE_REFRESH_MAX: Duration = Duration::from_hours(24);

pub(in crate::config) struct RawRouter {
    pub(in crate::config) name: Option<Spanned<String>>,
    pub(in crate::config) interface: Option<Spanned<String>>,
    pub(in crate::config) router_id: Option<Spanned<u8>>,
    pub(in crate::config) priority: Option<Spanned<u8>>,
    pub(in crate::config) preempt: Option<Spanned<bool>>,
    pub(in crate::config) preempt_delay: Option<Spanned<Duration>>,
    pub(in crate::config) advert_interval: Option<Spanned<Duration>>,
    pub(in crate::config) announce_refresh: Option<Spanned<Duration>>,
    pub(in crate::config) password: Option<Spanned<[u8; 8]>>,
    pub(in crate::config) unicast: Option<Spanned<RawUnicast>>,
    pub(in crate::config) vips: Option<Spanned<Vec<Spanned<IpNet>>>>,
    pub(in crate::config) excluded_vips: Option<Spanned<Vec<Spanned<IpNet>>>>,
    /// Of VIPs that are tables, by address.
    pub(in crate::config) places: Vec<RawPlace>,
    pub(in crate::config) virtual_mac: Option<Spanned<RawVirtualMac>>,
    pub(in crate::config) accept: Option<Spanned<bool>>,
    pub(in crate::config) routes: Vec<Spanned<RawRoute>>,
    pub(in crate::config) bfd: Option<Spanned<RawBfd>>,
    pub(in crate::config) tracking: RawTracking,
    pub(in crate::config) notify: Option<Spanned<RawNotify>>,
}

pub(in crate::config) struct RawUnicast {
    pub(in crate::config) source: Option<Spanned<Ipv4Addr>>,
    pub(in crate::config) peers: Option<Spanned<Vec<Spanned<Ipv4Addr>>>>,
}

pub(super) fn router(table: &mut Reader<'_, '_>) -> RawRouter {
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
            value::number(1..=255),
        ),
        preempt: table.optional("preempt", value::boolean),
        preempt_delay: table.optional("preempt_delay", value::duration(Duration::ZERO..=PREEMPT_DELAY_MAX)),
        // Its range is one of whole numbers, so it is checked with the protocol version.
        advert_interval: table.optional("advert_interval", value::duration(Duration::ZERO..=Duration::MAX)),
        announce_refresh: table
            .optional("announce_refresh", value::duration(Duration::ZERO..=ANNOUNCE_REFRESH_MAX)),
        password: table.optional("password", value::password),
        unicast,
        vips: table.required_list("vips", "vips = [\"192.0.2.4/24\"]", value::vip),
        excluded_vips: table.list("excluded_vips", value::vip),
        places: placement::places(table),
        virtual_mac: table.optional("virtual_mac", placement::virtual_mac),
        accept: table.optional("accept", value::boolean),
        routes: table.tables("route", "[[virtual_router.route]]", placement::route),
        bfd: bfd::bfd(table),
        tracking: tracking(table),
        notify: notify(table, "[virtual_router.notify]"),
    }
}
