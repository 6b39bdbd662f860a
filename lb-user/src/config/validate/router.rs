//! Virtual routers.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    ops::{Range, RangeInclusive},
    time::Duration,
};

use toml::Spanned;

use super::{Context, Findings, bfd, copied, group, placement, track, transport, unique, unique_names};
use crate::config::{
    host::RouterSpans,
    model::{Password, VirtualRouter, VrrpVersion},
    raw::{RawConfig, RawRouter},
    report::Problem,
};

/// The advert counts its addresses in one byte.
const MOST_VIPS: usize = 255;
/// The advert interval of version 2 (RFC 3768 §5.3.7).
const SECONDS: RangeInclusive<u64> = 1..=255;
/// The advert interval of version 3 (RFC 9568 §5.2.7).
const CENTISECONDS: RangeInclusive<u128> = 1..=4095;

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
    let is_ipv4 = transport::is_ipv4(raw);
    let default = if is_ipv4 { VrrpVersion::V2 } else { VrrpVersion::V3 };
    let version = copied(raw.version.as_ref()).unwrap_or(default);
    check_version(raw, version, is_ipv4, findings);
    check_vips(raw, version, is_ipv4, findings);
    check_advert_interval(raw, version, findings);
    let (tracking, interfaces) = track::tracking(&raw.tracking, context, findings);
    let notify = group::notify(raw.notify.as_ref(), findings);
    let transport = transport::transport(raw, context, findings);
    let authentication = raw.authentication.as_ref().map(|raw| transport::authentication(raw, findings));

    transport::check_witness(raw, context, findings);

    let placement = placement::placement(raw, findings);
    let (transport, source) = transport?;
    let (authentication, keys) = authentication.flatten().unzip();
    let (interface, vips) = (raw.interface.as_ref()?, raw.vips.as_ref()?.get_ref());
    let excluded_vips = || raw.excluded_vips.iter().flat_map(Spanned::get_ref);
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
        version,
        transport,
        password: copied(raw.password.as_ref()).map(Password),
        authentication,
        checksum: copied(raw.checksum.as_ref()).unwrap_or_default(),
        vips: vips.iter().map(|vip| *vip.get_ref()).collect(),
        excluded_vips: excluded_vips().map(|vip| *vip.get_ref()).collect(),
        placement,
        bfd: bfd::settings(raw, advert_interval),
        witness: copied(raw.witness.as_ref()),
        tracking,
        notify,
    };
    let spans = RouterSpans {
        interface: interface.span(),
        source: source.unwrap_or_else(|| interface.span()),
        vips: vips.iter().chain(excluded_vips()).map(Spanned::span).collect(),
        keys: keys.unwrap_or_default(),
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

/// What one version has and the other has not.
fn check_version(raw: &RawRouter, version: VrrpVersion, is_ipv4: bool, findings: &mut Findings<'_>) {
    if let Some(given) = &raw.version
        && version == VrrpVersion::V2
        && !is_ipv4
    {
        findings.problems.push(
            Problem::at(given.span(), "VRRP version 2 over IPv6")
                .expected("3, or no `version`")
                .help("version 2 knows IPv4 only; its adverts would have to go from an IPv4 source"),
        );
    }
    if let Some(password) = &raw.password
        && version == VrrpVersion::V3
    {
        findings
            .problems
            .push(Problem::at(password.span(), "VRRP version 3 has no password").help(
                "remove `password`; [virtual_router.authentication] signs adverts between nodes of lb",
            ));
    }
    if let Some(checksum) = &raw.checksum
        && (version == VrrpVersion::V2 || !is_ipv4)
    {
        findings.problems.push(
            Problem::at(checksum.span(), "`checksum` is for version 3 over IPv4")
                .help("remove it: version 2 and IPv6 have one checksum only"),
        );
    }
}

fn check_vips(raw: &RawRouter, version: VrrpVersion, is_ipv4: bool, findings: &mut Findings<'_>) {
    let Some(vips) = &raw.vips else { return };
    let mut advertised = vips.get_ref().iter().filter(|vip| vip.get_ref().addr().is_ipv4() == is_ipv4);
    let count = advertised.clone().count();
    let first = advertised.clone().next();
    if let Some(beyond) = advertised.nth(MOST_VIPS) {
        findings.problems.push(
            Problem::at(beyond.span(), format!("{count} VIPs in one virtual router"))
                .expected(format!("at most {MOST_VIPS}, as an advert counts them in one byte"))
                .help("split them over several virtual routers, or move some to `excluded_vips`"),
        );
    }
    // What could not be read may have been one.
    let sound = !vips.get_ref().is_empty();
    if count == 0 && sound {
        let (has, wants) = if is_ipv4 { ("IPv6", "IPv4") } else { ("IPv4", "IPv6") };
        findings.problems.push(
            Problem::at(
                vips.span(),
                format!("a virtual router with {has} VIPs only, whose adverts go over {wants}"),
            )
            .expected(format!("at least one {wants} VIP"))
            .help(format!(
                "adverts name addresses of their own family, the others follow the same owner unnamed; \
                     send them over {has}, or add a VIP of {wants}"
            )),
        );
    }
    if let Some(first) = first
        && version == VrrpVersion::V3
        && matches!(first.get_ref().addr(), IpAddr::V6(first) if !first.is_unicast_link_local())
    {
        findings.warnings.push(
            Problem::at(first.span(), "the first IPv6 VIP is not link-local")
                .expected("for instance \"fe80::4/64\" before it, on all nodes alike")
                .help("RFC 9568 §5.2.9 has it so; nodes of lb and keepalived do without, others may not"),
        );
    }
}

fn check_advert_interval(raw: &RawRouter, version: VrrpVersion, findings: &mut Findings<'_>) {
    let Some(interval) = &raw.advert_interval else { return };
    let given = *interval.get_ref();
    let (fits, expected, help) = match version {
        VrrpVersion::V2 => (
            given.subsec_nanos() == 0 && SECONDS.contains(&given.as_secs()),
            format!("whole seconds from \"{}s\" to \"{}s\"", SECONDS.start(), SECONDS.end()),
            "VRRP version 2 carries the interval as a number of seconds in one byte; version = 3 has shorter ones",
        ),
        VrrpVersion::V3 => (
            given.subsec_nanos().is_multiple_of(10_000_000)
                && CENTISECONDS.contains(&(given.as_millis() / 10)),
            "hundredths of a second from \"10ms\" to \"40s 950ms\"".to_owned(),
            "VRRP version 3 carries the interval as a number of hundredths of a second in twelve bits",
        ),
    };
    if !fits {
        let message = format!("`advert_interval` is {}", humantime::format_duration(given));
        findings.problems.push(Problem::at(interval.span(), message).expected(expected).help(help));
    }
}
