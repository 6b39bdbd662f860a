//! Addresses and routes of the node, and where VIPs are.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use toml::Spanned;

use super::{Findings, copied, rule::rules, unique};
use crate::config::{
    model::{NodeAddress, Place, Placement, Route},
    raw::{RawConfig, RawNodeAddress, RawPlace, RawRoute, RawRouter, RawVirtualMac},
    report::Problem,
};

/// How the VIPs of a virtual router are on the node.
pub(super) fn placement(raw: &RawRouter, findings: &mut Findings<'_>) -> Placement {
    let places = raw.places.iter().filter_map(|place| {
        let interface = place.interface.as_ref().or(raw.interface.as_ref());
        check_label(place.label.as_ref(), interface, place.address, findings);
        Some((place.address?, self::place(place)))
    });
    Placement {
        places: places.collect(),
        virtual_mac: virtual_mac(raw),
        accept: copied(raw.accept.as_ref()).unwrap_or(true),
        routes: routes(&raw.routes, findings),
        rules: rules(&raw.rules, findings),
    }
}

fn place(raw: &RawPlace) -> Place {
    Place {
        interface: text(raw.interface.as_ref()),
        label: text(raw.label.as_ref()),
        scope: copied(raw.scope.as_ref()),
    }
}

fn virtual_mac(raw: &RawRouter) -> Option<String> {
    match raw.virtual_mac.as_ref()?.get_ref() {
        RawVirtualMac::Off => None,
        RawVirtualMac::Named(name) => Some(name.clone()),
        RawVirtualMac::Usual => Some(format!("vrrp.{}", copied(raw.router_id.as_ref())?)),
    }
}

/// No two virtual routers can make the same interface; nor can one of them be made of another.
pub(super) fn check_virtual_macs(raw: &RawConfig, findings: &mut Findings<'_>) {
    let routers = || raw.virtual_routers.iter().map(Spanned::get_ref);
    let made: Vec<(String, std::ops::Range<usize>)> = routers()
        .filter_map(|router| Some((virtual_mac(router)?, router.virtual_mac.as_ref()?.span())))
        .collect();
    let items = made.iter().map(|(name, span)| (name.as_str(), span.clone()));
    unique(items, findings, |name, span, first| {
        Problem::at(span, format!("two virtual routers would make the interface {name}"))
            .related(first, "the first")
            .expected("another name")
            .help("write virtual_mac = \"vrrp.33-eth1\", any name of at most 15 bytes")
    });
    let used = routers()
        .filter_map(|router| router.interface.as_ref())
        .chain(raw.interfaces.iter().map(|(name, _)| name));
    for interface in used {
        if let Some((_, span)) = made.iter().find(|(name, _)| name == interface.get_ref()) {
            findings.problems.push(
                Problem::at(interface.span(), format!("{} is made by lb", interface.get_ref()))
                    .related(span.clone(), "for this virtual MAC address")
                    .expected("the interface below it"),
            );
        }
    }
}

pub(super) fn addresses(raw: &RawConfig, findings: &mut Findings<'_>) -> Vec<NodeAddress> {
    let list = || raw.addresses.iter().map(Spanned::get_ref);
    let given = list().filter_map(|address| address.address.as_ref());
    unique(
        given.map(|address| (address.get_ref().addr(), address.span())),
        findings,
        |address, span, first| {
            Problem::at(span, format!("address {address} is listed twice")).related(first, "the first time")
        },
    );
    list().filter_map(|address| node_address(address, findings)).collect()
}

fn node_address(raw: &RawNodeAddress, findings: &mut Findings<'_>) -> Option<NodeAddress> {
    let address = copied(raw.address.as_ref())?;
    check_label(raw.label.as_ref(), raw.interface.as_ref(), Some(address.addr()), findings);
    Some(NodeAddress {
        interface: text(raw.interface.as_ref())?,
        address,
        label: text(raw.label.as_ref()),
        scope: copied(raw.scope.as_ref()),
    })
}

/// A label is one of IPv4, and tools take what stands before its colon for the interface.
fn check_label(
    label: Option<&Spanned<String>>,
    interface: Option<&Spanned<String>>,
    address: Option<IpAddr>,
    findings: &mut Findings<'_>,
) {
    let (Some(label), Some(interface)) = (label, interface) else { return };
    if address.is_some_and(|address| address.is_ipv6()) {
        findings
            .problems
            .push(Problem::at(label.span(), "an IPv6 address has no label").help("leave `label` out"));
    }
    let rest = label.get_ref().strip_prefix(interface.get_ref().as_str());
    if !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':')) {
        findings.problems.push(
            Problem::at(
                label.span(),
                format!("label {:?} does not begin with its interface", label.get_ref()),
            )
            .expected(format!("\"{0}\" or \"{0}:…\"", interface.get_ref()))
            .related(interface.span(), "the interface"),
        );
    }
}

/// Routes; no two may be the same to the kernel.
pub(super) fn routes(raw: &[Spanned<RawRoute>], findings: &mut Findings<'_>) -> Vec<Route> {
    let routes: Vec<(Route, std::ops::Range<usize>)> =
        raw.iter().filter_map(|raw| Some((route(raw, findings)?, raw.span()))).collect();
    let keys = routes.iter().map(|(route, span)| ((route.to, route.table, route.metric), span.clone()));
    unique(keys, findings, |(to, ..), span, first| {
        Problem::at(span, format!("two routes to {to} in one table with one metric"))
            .related(first, "the first")
            .help("give each its own `metric`, or leave one out")
    });
    routes.into_iter().map(|(route, _)| route).collect()
}

fn route(raw: &Spanned<RawRoute>, findings: &mut Findings<'_>) -> Option<Route> {
    let (span, raw) = (raw.span(), raw.get_ref());
    let given = copied(raw.to.as_ref())?;
    if raw.via.is_none() && raw.interface.is_none() {
        findings.problems.push(
            Problem::at(span, "the route leads nowhere")
                .expected("a gateway, an interface or both")
                .help("add via = \"192.0.2.1\" or interface = \"eth0\""),
        );
        return None;
    }
    let is_ipv4 = |address: &Spanned<IpAddr>| address.get_ref().is_ipv4();
    let v4 = match (given, &raw.via, &raw.source) {
        (Some(to), ..) => to.addr().is_ipv4(),
        (None, Some(address), _) | (None, None, Some(address)) => is_ipv4(address),
        (None, None, None) => true,
    };
    for (key, address) in [("via", &raw.via), ("source", &raw.source)] {
        if let Some(address) = address.as_ref().filter(|address| is_ipv4(address) != v4) {
            let family = if v4 { "IPv4" } else { "IPv6" };
            findings.problems.push(
                Problem::at(address.span(), format!("`{key}` is of another family than the route"))
                    .expected(format!("an {family} address")),
            );
        }
    }
    let link_local = |via: &IpAddr| matches!(via, IpAddr::V6(via) if via.is_unicast_link_local());
    if let (Some(via), None) = (raw.via.as_ref().filter(|via| link_local(via.get_ref())), &raw.interface) {
        findings.problems.push(
            Problem::at(via.span(), "a link-local gateway says nothing without its interface")
                .help("add interface = \"eth0\""),
        );
    }
    let everywhere = if v4 { IpNet::V4(Ipv4Net::default()) } else { IpNet::V6(Ipv6Net::default()) };
    Some(Route {
        to: given.unwrap_or(everywhere),
        via: copied(raw.via.as_ref()),
        source: copied(raw.source.as_ref()),
        interface: text(raw.interface.as_ref()),
        table: copied(raw.table.as_ref()).unwrap_or(Route::MAIN),
        metric: copied(raw.metric.as_ref()),
        scope: copied(raw.scope.as_ref()),
    })
}

fn text(value: Option<&Spanned<String>>) -> Option<String> {
    value.map(|value| value.get_ref().clone())
}
