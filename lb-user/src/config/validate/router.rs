//! Virtual routers.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    ops::{Range, RangeInclusive},
    time::Duration,
};

use ipnet::IpNet;
use toml::Spanned;

use super::{Context, Findings, bfd, copied, group, placement, track, unique, unique_names};
use crate::config::{
    host::RouterSpans,
    model::{Password, Transport, VirtualRouter, VrrpVersion},
    raw::{RawConfig, RawRouter, RawUnicast},
    report::Problem,
};

/// The advert counts its addresses in one byte.
const MOST_VIPS: usize = 255;
/// The advert interval of version 2 (RFC 3768 §5.3.7).
const SECONDS: RangeInclusive<u64> = 1..=255;

pub(super) fn virtual_routers(
    raw: &RawConfig,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> (Vec<VirtualRouter>, Vec<RouterSpans>) {
    let routers = || raw.virtual_routers.iter().map(Spanned::get_ref);
    unique_names("virtual router", routers().filter_map(|router| router.name.as_ref()), findings);

    let identities = routers().filter_map(|router| {
        let (interface, id) = (router.interface.as_ref()?, router.router_id.as_ref()?);
        Some(((interface.get_ref().as_str(), *id.get_ref()), id.span()))
    });
    unique(identities, findings, |(interface, id), span, first| {
        Problem::at(span, format!("two virtual routers on {interface} have router_id {id}"))
            .related(first, "the first")
            .help("their adverts could not be told apart; give each its own number")
    });

    let vips = routers()
        .flat_map(|router| router.vips.iter().chain(&router.excluded_vips).flat_map(Spanned::get_ref));
    unique(vips.map(|vip| (vip.get_ref().addr(), vip.span())), findings, |vip, span, first| {
        Problem::at(span, format!("VIP {vip} is listed twice"))
            .related(first, "the first time")
            .help("a VIP belongs to one virtual router; remove it here or there")
    });

    bfd::check_shared_sessions(raw, findings);

    routers().filter_map(|router| virtual_router(router, context, findings)).unzip()
}

fn virtual_router(
    raw: &RawRouter,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> Option<(VirtualRouter, RouterSpans)> {
    check_vips(raw, findings);
    check_advert_interval(raw, findings);
    let (tracking, interfaces) = track::tracking(&raw.tracking, context, findings);
    let notify = group::notify(raw.notify.as_ref(), findings);
    if let Some(unicast) = &raw.unicast {
        check_unicast(unicast.get_ref(), context, findings);
    }

    let placement = placement::placement(raw, findings);
    let excluded = || raw.excluded_vips.iter().flat_map(Spanned::get_ref);
    let unicast = raw.unicast.as_ref()?.get_ref();
    let (source, interface, vips) =
        (unicast.source.as_ref()?, raw.interface.as_ref()?, raw.vips.as_ref()?.get_ref());
    let advert_interval = copied(raw.advert_interval.as_ref()).unwrap_or(Duration::from_secs(1));
    let router = VirtualRouter {
        name: raw.name.as_ref()?.get_ref().clone(),
        interface: interface.get_ref().clone(),
        router_id: copied(raw.router_id.as_ref())?,
        priority: copied(raw.priority.as_ref())?,
        preempt: copied(raw.preempt.as_ref()).unwrap_or(true),
        preempt_delay: copied(raw.preempt_delay.as_ref()).unwrap_or_default(),
        advert_interval,
        announce_refresh: Some(copied(raw.announce_refresh.as_ref()).unwrap_or(Duration::from_secs(1)))
            .filter(|refresh| !refresh.is_zero()),
        version: VrrpVersion::V2,
        transport: Transport::Unicast {
            source: (*source.get_ref()).into(),
            peers: unicast.peers.as_ref()?.get_ref().iter().map(|peer| (*peer.get_ref()).into()).collect(),
        },
        authentication: copied(raw.password.as_ref()).map(Password),
        vips: vips.iter().map(|vip| *vip.get_ref()).collect(),
        excluded_vips: excluded().map(|vip| *vip.get_ref()).collect(),
        placement,
        bfd: bfd::settings(raw, advert_interval),
        tracking,
        notify,
    };
    let spans = RouterSpans {
        interface: interface.span(),
        source: source.span(),
        vips: vips.iter().chain(excluded()).map(Spanned::span).collect(),
        places: places(raw),
        tracked: interfaces,
    };
    Some((router, spans))
}

/// Where the interfaces of VIPs stand.
fn places(raw: &RawRouter) -> BTreeMap<String, Range<usize>> {
    let interfaces = raw.places.iter().filter_map(|place| place.interface.as_ref());
    interfaces.map(|name| (name.get_ref().clone(), name.span())).collect()
}

fn check_vips(raw: &RawRouter, findings: &mut Findings<'_>) {
    let Some(vips) = &raw.vips else { return };
    let mut advertised = vips.get_ref().iter().filter(|vip| matches!(vip.get_ref(), IpNet::V4(_)));
    let count = advertised.clone().count();
    if let Some(beyond) = advertised.nth(MOST_VIPS) {
        findings.problems.push(
            Problem::at(beyond.span(), format!("{count} VIPs in one virtual router"))
                .expected(format!("at most {MOST_VIPS}, as an advert counts them in one byte"))
                .help("split them over several virtual routers"),
        );
    }
    // What could not be read may have been one.
    let sound = !vips.get_ref().is_empty();
    if count == 0 && sound {
        findings.problems.push(
            Problem::at(vips.span(), "a virtual router with IPv6 VIPs only")
                .expected("at least one IPv4 VIP")
                .help(
                    "adverts of VRRP version 2 carry IPv4 addresses; IPv6 VIPs follow the same owner unnamed",
                ),
        );
    }
}

fn check_advert_interval(raw: &RawRouter, findings: &mut Findings<'_>) {
    let Some(interval) = &raw.advert_interval else { return };
    let whole = interval.get_ref().subsec_nanos() == 0;
    if !whole || !SECONDS.contains(&interval.get_ref().as_secs()) {
        let message = format!("`advert_interval` is {}", humantime::format_duration(*interval.get_ref()));
        findings.problems.push(
            Problem::at(interval.span(), message)
                .expected(format!("whole seconds from \"{}s\" to \"{}s\"", SECONDS.start(), SECONDS.end()))
                .help("VRRP version 2 carries the interval as a number of seconds in one byte"),
        );
    }
}

fn check_unicast(unicast: &RawUnicast, context: &Context<'_>, findings: &mut Findings<'_>) {
    let peers = || unicast.peers.iter().flat_map(Spanned::get_ref);
    unique(peers().map(|peer| (*peer.get_ref(), peer.span())), findings, |peer, span, first| {
        Problem::at(span, format!("peer {peer} is listed twice")).related(first, "the first time")
    });
    if let Some(source) = &unicast.source {
        for peer in peers().filter(|peer| peer.get_ref() == source.get_ref()) {
            findings.problems.push(
                Problem::at(peer.span(), format!("{} is this node itself", peer.get_ref()))
                    .expected("the addresses of the other nodes")
                    .related(source.span(), "the source"),
            );
        }
    }
    let vip = |address, span: Range<usize>, key: &str| {
        let (vip_span, router) = context.router_vips.get(&IpAddr::V4(address))?;
        Some(
            Problem::at(span, format!("`{key}` has {address}, a VIP of virtual router {router:?}"))
                .expected("an address that stays with its node")
                .related(vip_span.clone(), "the VIP"),
        )
    };
    if let Some(source) = &unicast.source {
        findings.problems.extend(vip(*source.get_ref(), source.span(), "source"));
    }
    for peer in peers() {
        findings.problems.extend(vip(*peer.get_ref(), peer.span(), "peers"));
    }
}
