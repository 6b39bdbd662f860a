//! Virtual routers.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use toml::{Spanned, de::DeValue};

use super::bfd::{self, RawBfd};
use super::{
    group::{RawNotify, notify},
    placement::{self, RawPlace, RawRoute, RawVirtualMac},
    rule::{self, RawRule},
    track::{RawTracking, tracking},
};
use crate::config::{
    model::{AuthenticationMode, ChecksumForm, Secret, VrrpVersion},
    read::Reader,
    report::Problem,
    value,
};

/// The clocks of nodes are kept by NTP, or they are not: beyond this a window means nothing.
const LONGEST_WINDOW: Duration = Duration::from_hours(1);

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
    pub(in crate::config) version: Option<Spanned<VrrpVersion>>,
    pub(in crate::config) password: Option<Spanned<[u8; 8]>>,
    pub(in crate::config) authentication: Option<Spanned<RawAuthentication>>,
    pub(in crate::config) checksum: Option<Spanned<ChecksumForm>>,
    pub(in crate::config) unicast: Option<Spanned<RawUnicast>>,
    pub(in crate::config) multicast: Option<Spanned<RawMulticast>>,
    pub(in crate::config) vips: Option<Spanned<Vec<Spanned<IpNet>>>>,
    pub(in crate::config) excluded_vips: Option<Spanned<Vec<Spanned<IpNet>>>>,
    /// Of VIPs that are tables, by address.
    pub(in crate::config) places: Vec<RawPlace>,
    pub(in crate::config) virtual_mac: Option<Spanned<RawVirtualMac>>,
    pub(in crate::config) accept: Option<Spanned<bool>>,
    pub(in crate::config) routes: Vec<Spanned<RawRoute>>,
    pub(in crate::config) rules: Vec<Spanned<RawRule>>,
    pub(in crate::config) bfd: Option<Spanned<RawBfd>>,
    pub(in crate::config) witness: Option<Spanned<IpAddr>>,
    pub(in crate::config) tracking: RawTracking,
    pub(in crate::config) notify: Option<Spanned<RawNotify>>,
}

pub(in crate::config) struct RawUnicast {
    pub(in crate::config) source: Option<Spanned<IpAddr>>,
    pub(in crate::config) peers: Option<Spanned<Vec<Spanned<IpAddr>>>>,
    pub(in crate::config) min_ttl: Option<Spanned<u8>>,
}

pub(in crate::config) struct RawMulticast {
    pub(in crate::config) source: Option<Spanned<IpAddr>>,
    pub(in crate::config) group: Option<Spanned<IpAddr>>,
}

pub(in crate::config) struct RawAuthentication {
    pub(in crate::config) keys: Vec<Spanned<RawKey>>,
    pub(in crate::config) send: Option<Spanned<u8>>,
    pub(in crate::config) mode: Option<Spanned<AuthenticationMode>>,
    pub(in crate::config) window: Option<Spanned<Duration>>,
}

pub(in crate::config) struct RawKey {
    pub(in crate::config) id: Option<Spanned<u8>>,
    pub(in crate::config) secret: Option<Spanned<Secret>>,
    pub(in crate::config) file: Option<Spanned<PathBuf>>,
}

pub(super) fn router(table: &mut Reader<'_, '_>) -> RawRouter {
    let versions = [(2, VrrpVersion::V2), (3, VrrpVersion::V3)];
    let version = table.optional("version", value::number::<u8>(2..=3)).and_then(|number| {
        let version = versions.iter().find(|(known, _)| known == number.get_ref())?.1;
        Some(Spanned::new(number.span(), version))
    });
    let forms = [("pseudo-header", ChecksumForm::PseudoHeader), ("rfc9568", ChecksumForm::MessageOnly)];
    let unicast = table.table("unicast", "[virtual_router.unicast]", |unicast| RawUnicast {
        source: unicast.required("source", "source = \"192.0.2.2\", this node's address", value::node),
        peers: unicast.required_list(
            "peers",
            "peers = [\"192.0.2.3\"], the addresses of the other nodes",
            value::node,
        ),
        min_ttl: unicast.optional("min_ttl", value::number(1..=255)),
    });
    let multicast = table.table("multicast", "[virtual_router.multicast]", |multicast| RawMulticast {
        source: multicast.optional("source", value::node),
        group: multicast.optional("group", value::group),
    });
    let authentication = table.table("authentication", "[virtual_router.authentication]", authentication);
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
        witness: table.optional("witness", value::node),
        announce_refresh: table
            .optional("announce_refresh", value::duration(Duration::ZERO..=ANNOUNCE_REFRESH_MAX)),
        version,
        password: table.optional("password", value::password),
        authentication,
        checksum: table.optional("checksum", value::choice(&forms)),
        unicast,
        multicast,
        vips: table.required_list("vips", "vips = [\"192.0.2.4/24\"]", value::vip),
        excluded_vips: table.list("excluded_vips", value::vip),
        places: placement::places(table),
        virtual_mac: table.optional("virtual_mac", placement::virtual_mac),
        accept: table.optional("accept", value::boolean),
        routes: table.tables("route", "[[virtual_router.route]]", placement::route),
        rules: table.tables("rule", "[[virtual_router.rule]]", rule::rule),
        bfd: bfd::bfd(table),
        tracking: tracking(table),
        notify: notify(table, "[virtual_router.notify]"),
    }
}

fn authentication(table: &mut Reader<'_, '_>) -> RawAuthentication {
    let modes = [("enforce", AuthenticationMode::Enforce), ("permissive", AuthenticationMode::Permissive)];
    let example = "keys = [{ id = 1, file = \"/etc/lb/vrrp.key\" }]";
    let keys = table.value("keys").map(|keys| (keys.span(), keys.get_ref().as_array()));
    let keys = match keys {
        None => {
            table.missing("keys", example);
            Vec::new()
        }
        Some((span, None)) => {
            table.push(Problem::at(span, "`keys` is no array").expected(example));
            Vec::new()
        }
        Some((span, Some(array))) => {
            if array.is_empty() {
                table.push(Problem::at(span, "`keys` is empty").help(format!("add {example}")));
            }
            array.iter().filter_map(|element| key(table, element, example)).collect()
        }
    };
    RawAuthentication {
        keys,
        send: table.optional("send", value::number(1..=255)),
        mode: table.optional("mode", value::choice(&modes)),
        window: table.optional("window", value::duration(Duration::from_secs(1)..=LONGEST_WINDOW)),
    }
}

fn key<'t>(
    table: &mut Reader<'t, '_>,
    element: &'t Spanned<DeValue<'t>>,
    example: &str,
) -> Option<Spanned<RawKey>> {
    let Some(inner) = element.get_ref().as_table() else {
        // Not described: it may be the secret itself.
        table.push(Problem::at(element.span(), "a key is no table").expected(example));
        return None;
    };
    let before = table.mistakes();
    let key = table.inner("a key", inner, element.span(), |key| RawKey {
        id: key.required("id", "id = 1, by which adverts name it", value::number(1..=255)),
        secret: key.optional("secret", value::secret),
        file: key.optional("file", value::file),
    });
    // What is wrong has been said; what follows from it need not be.
    (table.mistakes() == before).then(|| Spanned::new(element.span(), key))
}
