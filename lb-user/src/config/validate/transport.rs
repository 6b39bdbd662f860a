//! How the adverts of a virtual router travel, and what makes them believable.

use std::{net::IpAddr, ops::Range, time::Duration};

use toml::Spanned;

use super::{Context, Findings, copied, unique};
use crate::config::{
    model::{Authentication, Key, Secret, Transport},
    raw::{RawAuthentication, RawMulticast, RawRouter, RawUnicast},
    report::Problem,
};

/// How far apart clocks may be, if the configuration does not say.
const WINDOW: Duration = Duration::from_secs(10);

/// Whether adverts go over IPv4: as the source, the peers, the group or else the first VIP says.
pub(super) fn is_ipv4(raw: &RawRouter) -> bool {
    let unicast = raw.unicast.as_ref().map(Spanned::get_ref);
    let multicast = raw.multicast.as_ref().map(Spanned::get_ref);
    let peer = || Some(*unicast?.peers.as_ref()?.get_ref().first()?.get_ref());
    copied(unicast.and_then(|unicast| unicast.source.as_ref()))
        .or_else(peer)
        .or_else(|| copied(multicast?.source.as_ref()))
        .or_else(|| copied(multicast?.group.as_ref()))
        .or_else(|| Some(raw.vips.as_ref()?.get_ref().first()?.get_ref().addr()))
        .is_none_or(|address| address.is_ipv4())
}

/// The transport and where the source stands, if it stands anywhere.
pub(super) fn transport(
    raw: &RawRouter,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> Option<(Transport, Option<Range<usize>>)> {
    match (&raw.unicast, &raw.multicast) {
        (Some(unicast), Some(multicast)) => {
            findings.problems.push(
                Problem::at(multicast.span(), "both [virtual_router.multicast] and [virtual_router.unicast]")
                    .related(unicast.span(), "unicast")
                    .help("adverts go one way or the other; remove one of the tables"),
            );
            None
        }
        (Some(unicast), None) => self::unicast(unicast.get_ref(), context, findings),
        (None, multicast) => {
            let multicast = multicast.as_ref().map(Spanned::get_ref);
            self::multicast(raw, multicast, context, findings)
        }
    }
}

fn unicast(
    raw: &RawUnicast,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> Option<(Transport, Option<Range<usize>>)> {
    let peers = || raw.peers.iter().flat_map(Spanned::get_ref);
    unique(peers().map(|peer| (*peer.get_ref(), peer.span())), findings, |peer, span, first| {
        Problem::at(span, format!("peer {peer} is listed twice")).related(first, "the first time")
    });
    if let Some(source) = &raw.source {
        for peer in peers().filter(|peer| peer.get_ref() == source.get_ref()) {
            findings.problems.push(
                Problem::at(peer.span(), format!("{} is this node itself", peer.get_ref()))
                    .expected("the addresses of the other nodes")
                    .related(source.span(), "the source"),
            );
        }
        let is_ipv4 = source.get_ref().is_ipv4();
        for peer in peers().filter(|peer| peer.get_ref().is_ipv4() != is_ipv4) {
            let problem =
                Problem::at(peer.span(), format!("{} is of another family than the source", peer.get_ref()));
            findings.problems.push(
                problem
                    .expected(if is_ipv4 { "an IPv4 address" } else { "an IPv6 address" })
                    .related(source.span(), "the source")
                    .help("a virtual router sends its adverts over one family"),
            );
        }
        not_a_vip(source, "source", context, findings);
    }
    for peer in peers() {
        not_a_vip(peer, "peers", context, findings);
    }
    let source = raw.source.as_ref()?;
    let transport = Transport::Unicast {
        source: *source.get_ref(),
        peers: raw.peers.as_ref()?.get_ref().iter().map(|peer| *peer.get_ref()).collect(),
        min_ttl: copied(raw.min_ttl.as_ref()).unwrap_or(u8::MAX),
    };
    Some((transport, Some(source.span())))
}

fn multicast(
    router: &RawRouter,
    raw: Option<&RawMulticast>,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> Option<(Transport, Option<Range<usize>>)> {
    let source = raw.and_then(|raw| raw.source.as_ref());
    let given = raw.and_then(|raw| raw.group.as_ref());
    if let (Some(source), Some(group)) = (source, given)
        && source.get_ref().is_ipv4() != group.get_ref().is_ipv4()
    {
        findings.problems.push(
            Problem::at(
                group.span(),
                format!("group {} is of another family than the source", group.get_ref()),
            )
            .related(source.span(), "the source"),
        );
        return None;
    }
    if let Some(source) = source {
        not_a_vip(source, "source", context, findings);
    }
    let default: IpAddr = if is_ipv4(router) { Transport::GROUP.into() } else { Transport::GROUP6.into() };
    let transport = Transport::Multicast { source: copied(source), group: copied(given).unwrap_or(default) };
    Some((transport, source.map(Spanned::span)))
}

/// A witness is neither a VIP nor one of the nodes, whose death it would tell as its own.
pub(super) fn check_witness(router: &RawRouter, context: &Context<'_>, findings: &mut Findings<'_>) {
    let Some(witness) = &router.witness else { return };
    not_a_vip(witness, "witness", context, findings);
    let unicast = router.unicast.iter().map(Spanned::get_ref);
    let nodes = unicast.flat_map(|unicast| {
        let peers = unicast.peers.iter().flat_map(Spanned::get_ref);
        unicast.source.iter().chain(peers)
    });
    for node in nodes.filter(|node| node.get_ref() == witness.get_ref()) {
        let message = format!("`witness` has {}, a node of this virtual router", witness.get_ref());
        findings.problems.push(
            Problem::at(witness.span(), message)
                .expected("an address that answers whichever node fails, such as the gateway's")
                .related(node.span(), "the node"),
        );
    }
}

fn not_a_vip(address: &Spanned<IpAddr>, key: &str, context: &Context<'_>, findings: &mut Findings<'_>) {
    if let Some((vip, router)) = context.router_vips.get(address.get_ref()) {
        let message = format!("`{key}` has {}, a VIP of virtual router {router:?}", address.get_ref());
        findings.problems.push(
            Problem::at(address.span(), message)
                .expected("an address that stays with its node")
                .related(vip.clone(), "the VIP"),
        );
    }
}

/// The keys and where each of them stands.
pub(super) fn authentication(
    raw: &Spanned<RawAuthentication>,
    findings: &mut Findings<'_>,
) -> Option<(Authentication, Vec<Range<usize>>)> {
    let table = raw.get_ref();
    let ids = || table.keys.iter().filter_map(|key| key.get_ref().id.as_ref());
    unique(ids().map(|id| (*id.get_ref(), id.span())), findings, |id, span, first| {
        Problem::at(span, format!("two keys have id {id}"))
            .related(first, "the first")
            .help("adverts name their key by it; give each its own")
    });
    let mut keys = Vec::new();
    let mut spans = Vec::new();
    for key in &table.keys {
        let secret = match (&key.get_ref().secret, &key.get_ref().file) {
            (Some(secret), None) => secret.get_ref().clone(),
            (None, Some(file)) => Secret::File(file.get_ref().clone()),
            (None, None) | (Some(_), Some(_)) => {
                findings.problems.push(
                    Problem::at(key.span(), "a key has one of `secret` and `file`")
                        .help("write secret = \"…\", or file = \"/etc/lb/vrrp.key\" that holds it"),
                );
                continue;
            }
        };
        if let Some(id) = copied(key.get_ref().id.as_ref()) {
            keys.push(Key { id, secret });
            spans.push(key.get_ref().file.as_ref().map_or_else(|| key.span(), Spanned::span));
        }
    }
    let send = match &table.send {
        None => keys.first()?.id,
        Some(send) => {
            if !ids().any(|id| id.get_ref() == send.get_ref()) {
                let list = ids().map(|id| id.get_ref().to_string()).collect::<Vec<_>>().join(", ");
                findings.problems.push(
                    Problem::at(send.span(), format!("no key has id {}", send.get_ref()))
                        .help(format!("there is {list}")),
                );
            }
            *send.get_ref()
        }
    };
    let mode = copied(table.mode.as_ref()).unwrap_or_default();
    let window = copied(table.window.as_ref()).unwrap_or(WINDOW);
    Some((Authentication { keys, send, mode, window }, spans))
}
