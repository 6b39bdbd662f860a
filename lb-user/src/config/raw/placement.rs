//! Addresses and routes of the node, and where VIPs are.

use std::net::IpAddr;

use ipnet::IpNet;
use toml::{Spanned, de::DeValue};

use crate::config::{
    model::Scope,
    read::{Parsed, Reader, wrong_type},
    value,
};

pub(in crate::config) struct RawPlace {
    /// The VIP, if it could be read.
    pub(in crate::config) address: Option<IpAddr>,
    pub(in crate::config) interface: Option<Spanned<String>>,
    pub(in crate::config) label: Option<Spanned<String>>,
    pub(in crate::config) scope: Option<Spanned<Scope>>,
}

#[derive(Clone)]
pub(in crate::config) enum RawVirtualMac {
    /// By the name that keepalived gives.
    Usual,
    Named(String),
    Off,
}

pub(in crate::config) struct RawNodeAddress {
    pub(in crate::config) address: Option<Spanned<IpNet>>,
    pub(in crate::config) interface: Option<Spanned<String>>,
    pub(in crate::config) label: Option<Spanned<String>>,
    pub(in crate::config) scope: Option<Spanned<Scope>>,
}

pub(in crate::config) struct RawRoute {
    /// `None` within: `"default"`, of the family of the rest.
    pub(in crate::config) to: Option<Spanned<Option<IpNet>>>,
    pub(in crate::config) via: Option<Spanned<IpAddr>>,
    pub(in crate::config) source: Option<Spanned<IpAddr>>,
    pub(in crate::config) interface: Option<Spanned<String>>,
    pub(in crate::config) table: Option<Spanned<u32>>,
    pub(in crate::config) metric: Option<Spanned<u32>>,
    pub(in crate::config) scope: Option<Spanned<Scope>>,
}

/// What the tables among the VIPs say besides the address, which [`value::vip`] reads.
pub(super) fn places(table: &mut Reader<'_, '_>) -> Vec<RawPlace> {
    let mut places = Vec::new();
    for (key, what) in [("vips", "a VIP in `vips`"), ("excluded_vips", "a VIP in `excluded_vips`")] {
        let Some(array) = table.value(key).and_then(|value| value.get_ref().as_array()) else { continue };
        for element in array {
            let Some(inner) = element.get_ref().as_table() else { continue };
            places.push(table.inner(what, inner, element.span(), |place| RawPlace {
                address:
                    place.value("address").and_then(|value| Some(value::vip("address", value).ok()?.addr())),
                interface: place.optional("interface", value::interface),
                label: place.optional("label", label),
                scope: place.optional("scope", scope),
            }));
        }
    }
    places
}

/// `true`, `false` or the name of the interface.
pub(super) fn virtual_mac(key: &str, value: &Spanned<DeValue<'_>>) -> Parsed<RawVirtualMac> {
    match value.get_ref() {
        DeValue::Boolean(true) => Ok(RawVirtualMac::Usual),
        DeValue::Boolean(false) => Ok(RawVirtualMac::Off),
        DeValue::String(_) => value::interface(key, value).map(RawVirtualMac::Named),
        _ => Err(wrong_type(key, value, "true, false, or the name of the interface to make")),
    }
}

pub(super) fn node_address(table: &mut Reader<'_, '_>) -> RawNodeAddress {
    RawNodeAddress {
        address: table.required("address", "address = \"192.0.2.9/24\"", value::vip),
        interface: table.required("interface", "interface = \"eth0\"", value::interface),
        label: table.optional("label", label),
        scope: table.optional("scope", scope),
    }
}

pub(super) fn route(table: &mut Reader<'_, '_>) -> RawRoute {
    RawRoute {
        to: table.required("to", "to = \"default\" or \"198.51.100.0/24\"", destination),
        via: table.optional("via", gateway),
        source: table.optional("source", value::address),
        interface: table.optional("interface", value::interface),
        table: table.optional("table", value::number(1..=u32::MAX.into())),
        metric: table.optional("metric", value::number(0..=u32::MAX.into())),
        scope: table.optional("scope", scope),
    }
}

/// A network, one host, or `"default"`.
pub(super) fn destination(key: &str, value: &Spanned<DeValue<'_>>) -> Parsed<Option<IpNet>> {
    let text = value::string(key, value)?;
    if text == "default" {
        return Ok(None);
    }
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let expected = "a network, such as \"198.51.100.0/24\", or \"default\"";
    match network {
        Ok(network) if network.trunc() == network => Ok(Some(network)),
        Ok(network) => Err(wrong_type(key, value, expected)
            .help(format!("the address has bits beyond its prefix: \"{}\" has none", network.trunc()))),
        Err(_) => Err(wrong_type(key, value, expected)),
    }
}

/// A router's address: link-local too, where the route names the interface.
fn gateway(key: &str, value: &Spanned<DeValue<'_>>) -> Parsed<IpAddr> {
    let text = value::string(key, value)?;
    match text.parse::<IpAddr>() {
        Ok(address) if !address.is_unspecified() && !address.is_multicast() => Ok(address),
        _ => Err(wrong_type(key, value, "the IP address of a router, such as \"192.0.2.1\"")),
    }
}

/// The kernel takes 15 bytes and asks nothing else.
fn label(key: &str, value: &Spanned<DeValue<'_>>) -> Parsed<String> {
    let text = value::string(key, value)?;
    if (1..=15).contains(&text.len()) && !text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Ok(text);
    }
    Err(wrong_type(key, value, "a label of 1 to 15 bytes without spaces, such as \"eth0:vip\""))
}

fn scope(key: &str, value: &Spanned<DeValue<'_>>) -> Parsed<Scope> {
    let words =
        [("global", Scope::Global), ("site", Scope::Site), ("link", Scope::Link), ("host", Scope::Host)];
    value::choice(&words)(key, value)
}
