//! From what is written to what holds: compares values with each other and builds the model.

mod bfd;
mod check;
mod group;
mod placement;
mod router;
mod rule;
mod service;
mod track;
mod transport;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    net::IpAddr,
    ops::Range,
    path::PathBuf,
    time::Duration,
};

use ipnet::{Ipv4Net, Ipv6Net};
use lb_common::limits;
use toml::Spanned;

use super::{
    host::Spans,
    model::{Config, Daemon, InterfaceSettings},
    raw::{RawConfig, RawDaemon},
    report::Problem,
    value,
};

/// What was found so far.
pub(super) struct Findings<'p> {
    pub(super) problems: &'p mut Vec<Problem>,
    pub(super) warnings: &'p mut Vec<Problem>,
}

/// What one part of the configuration must know of the others.
struct Context<'r> {
    /// Every VIP of a virtual router: where it stands, and the router's name.
    router_vips: BTreeMap<IpAddr, (Range<usize>, &'r str)>,
    /// The VIPs of services.
    service_vips: BTreeMap<IpAddr, Range<usize>>,
    /// What virtual routers and groups may track.
    trackers: track::Known<'r>,
}

/// The model and the places in the text that it came from. Only if no problem was added (nor there before) is it
/// complete.
pub(super) fn validate(raw: &RawConfig, findings: &mut Findings<'_>) -> (Config, Spans) {
    let context = context(raw);
    something_to_do(raw, findings);
    let (interfaces, interface_spans) = interfaces(raw, findings);
    let track_scripts = track::track_scripts(raw, findings);
    let track_processes = track::track_processes(raw, findings);
    let track_files = track::track_files(raw, findings);
    let (virtual_routers, routers) = router::virtual_routers(raw, &context, findings);
    let (sync_groups, tracked) = group::sync_groups(raw, &context, findings);
    let (services, backends) = service::services(raw, &context, findings);
    within_limits(raw, &context, findings);
    placement::check_virtual_macs(raw, findings);
    let config = Config {
        daemon: daemon(&raw.daemon),
        interfaces,
        virtual_routers,
        track_scripts,
        track_processes,
        track_files,
        sync_groups,
        services,
        addresses: placement::addresses(raw, findings),
        routes: placement::routes(&raw.routes, findings),
        rules: rule::rules(&raw.rules, findings),
    };
    let authorities = check::authorities(raw);
    (config, Spans { interfaces: interface_spans, routers, tracked, backends, authorities })
}

fn something_to_do(raw: &RawConfig, findings: &mut Findings<'_>) {
    // What could not be read may have been meant to be it.
    if !raw.virtual_routers.is_empty() || !findings.problems.is_empty() {
        return;
    }
    match raw.services.first() {
        None => findings.problems.push(
            Problem::at(0..0, "nothing to do: there is no [[virtual_router]] and no [[service]]")
                .help("configs/ has examples to start from"),
        ),
        Some(service) if raw.interfaces.is_empty() => findings.problems.push(
            Problem::at(service.span(), "no interface is named, so the service would never see a packet")
                .help("add [interface.eth0], by the name of the interface its clients come through"),
        ),
        Some(_) => {}
    }
}

fn context(raw: &RawConfig) -> Context<'_> {
    let mut router_vips = BTreeMap::new();
    for router in raw.virtual_routers.iter().map(Spanned::get_ref) {
        let name = router.name.as_ref().map_or("?", |name| name.get_ref());
        for vip in router.vips.iter().chain(&router.excluded_vips).flat_map(Spanned::get_ref) {
            router_vips.entry(vip.get_ref().addr()).or_insert((vip.span(), name));
        }
    }
    let mut service_vips = BTreeMap::new();
    for vip in raw.services.iter().filter_map(|service| service.get_ref().vip.as_ref()) {
        service_vips.entry(*vip.get_ref()).or_insert(vip.span());
    }
    Context { router_vips, service_vips, trackers: track::Known::new(raw) }
}

fn daemon(raw: &RawDaemon) -> Daemon {
    let folder = |given: &Option<Spanned<PathBuf>>, default: &str| {
        given.as_ref().map_or_else(|| PathBuf::from(default), |path| path.get_ref().clone())
    };
    Daemon {
        runtime_dir: folder(&raw.runtime_dir, "/run/lb"),
        pin_dir: folder(&raw.pin_dir, "/sys/fs/bpf/lb"),
        packet_log: copied(raw.packet_log.as_ref()).unwrap_or_default(),
        notify_fifo: raw.notify_fifo.as_ref().map(|path| path.get_ref().clone()),
        realtime: copied(raw.realtime.as_ref()).unwrap_or(true),
        drain: copied(raw.drain.as_ref()).unwrap_or(Duration::from_secs(1)),
        tunnel_sources: raw.tunnel_sources.as_ref().map_or_else(
            || vec![Ipv4Net::default().into(), Ipv6Net::default().into()],
            |networks| networks.get_ref().iter().map(|network| *network.get_ref()).collect(),
        ),
    }
}

fn interfaces(
    raw: &RawConfig,
    findings: &mut Findings<'_>,
) -> (BTreeMap<String, InterfaceSettings>, BTreeMap<String, Range<usize>>) {
    let mut settings = BTreeMap::new();
    let mut spans = BTreeMap::new();
    for (name, xdp) in &raw.interfaces {
        if let Some(expected) = value::interface_fault(name.get_ref()) {
            let message = format!("{:?} cannot be an interface", name.get_ref());
            findings.problems.push(Problem::at(name.span(), message).expected(expected));
        }
        let xdp = copied(xdp.as_ref()).unwrap_or_default();
        settings.insert(name.get_ref().clone(), InterfaceSettings { xdp });
        spans.insert(name.get_ref().clone(), name.span());
    }
    (settings, spans)
}

/// The maps of the XDP program have room for so many.
fn within_limits(raw: &RawConfig, context: &Context<'_>, findings: &mut Findings<'_>) {
    let mut limit = |what: &str, most: u32, beyond: Option<Range<usize>>| {
        if let Some(span) = beyond {
            let message = format!("too many {what}");
            findings.problems.push(Problem::at(span, message).expected(format!("at most {most}")));
        }
    };
    let nth = |most: u32| most as usize;

    // The first and the last lease are for VIPs without a virtual router, backend 0 means none.
    let routers = limits::LEASES - 2;
    limit("virtual routers", routers, raw.virtual_routers.get(nth(routers)).map(Spanned::span));
    limit("services", limits::SERVICES, raw.services.get(nth(limits::SERVICES)).map(Spanned::span));
    let mut prefixes = 0;
    let beyond = raw.services.iter().filter_map(|service| service.get_ref().ports.as_ref()).find(|ports| {
        let ports = ports.get_ref();
        prefixes += if ports.one().is_some() { 0 } else { ports.prefixes().len() };
        prefixes > nth(limits::SERVICE_RANGES)
    });
    limit("blocks of ports (a range is up to 30)", limits::SERVICE_RANGES, beyond.map(Spanned::span));
    let backends = limits::MOST_BACKENDS - 1;
    let mut all_backends = raw.services.iter().flat_map(|service| &service.get_ref().backends);
    limit("backends", backends, all_backends.nth(nth(backends)).map(Spanned::span));
    let router_vips = context.router_vips.values().map(|(span, _)| span);
    let other_vips = context.service_vips.iter().filter(|(vip, _)| !context.router_vips.contains_key(vip));
    let mut all_vips = router_vips.chain(other_vips.map(|(_, span)| span));
    limit("VIPs", limits::VIPS, all_vips.nth(nth(limits::VIPS)).cloned());
    let mut names = BTreeSet::new();
    let routers = raw.virtual_routers.iter().map(Spanned::get_ref);
    let of_vips =
        routers.clone().flat_map(|router| &router.places).filter_map(|place| place.interface.as_ref());
    let beyond = routers
        .filter_map(|router| router.interface.as_ref())
        .chain(of_vips)
        .chain(raw.interfaces.iter().map(|(name, _)| name))
        .find(|name| names.insert(name.get_ref()) && names.len() > nth(limits::INTERFACES));
    limit("interfaces", limits::INTERFACES, beyond.map(Spanned::span));
}

/// Notes every item whose key an earlier one has: `problem` gets the item's place and the earlier one's.
fn unique<K: Ord + Copy>(
    items: impl IntoIterator<Item = (K, Range<usize>)>,
    findings: &mut Findings<'_>,
    problem: impl Fn(K, Range<usize>, Range<usize>) -> Problem,
) {
    let mut seen = BTreeMap::new();
    for (key, span) in items {
        match seen.entry(key) {
            Entry::Vacant(vacant) => {
                vacant.insert(span);
            }
            Entry::Occupied(first) => findings.problems.push(problem(key, span, first.get().clone())),
        }
    }
}

/// Notes every name that an earlier item of the same kind has.
fn unique_names<'r>(
    what: &str,
    names: impl Iterator<Item = &'r Spanned<String>>,
    findings: &mut Findings<'_>,
) {
    let items = names.map(|name| (name.get_ref().as_str(), name.span()));
    unique(items, findings, |name, span, first| {
        Problem::at(span, format!("two {what}s are named {name:?}"))
            .related(first, "the first")
            .expected("another name")
    });
}

fn copied<T: Copy>(value: Option<&Spanned<T>>) -> Option<T> {
    value.map(|value| *value.get_ref())
}
