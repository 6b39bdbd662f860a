//! Policy rules that this daemon puts into the kernel's list, and finds again by their protocol number.

use futures_util::StreamExt as _;
use ipnet::IpNet;
use rtnetlink::{
    packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        route::RouteProtocol,
        rule::{RuleAction, RuleAttribute, RuleMessage},
    },
};

use super::{
    netlink::{Netlink, NetlinkError},
    own_routes::ROUTE_PROTOCOL,
};
use crate::config::Rule;

/// Lists, adds and deletes rules of [`ROUTE_PROTOCOL`].
#[derive(Clone, Debug)]
pub struct OwnRules {
    netlink: Netlink,
}

impl OwnRules {
    /// On a socket of rtnetlink's.
    pub fn new(netlink: Netlink) -> Self {
        Self { netlink }
    }

    /// Those that are there, of both families.
    pub async fn list(&self) -> Result<Vec<Rule>, NetlinkError> {
        let _listing = self.netlink.listing.lock().await;
        let operation = "listing the policy rules of lb";
        let mut rules = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RuleMessage::default();
            message.header.family = family;
            let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetRule(message));
            request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
            let mut handle = self.netlink.handle.clone();
            let mut answers = handle.request(request).map_err(|error| NetlinkError::new(operation, error))?;
            while let Some(answer) = answers.next().await {
                match answer.payload {
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRule(message)) => {
                        rules.extend(parse(&message));
                    }
                    // A kernel without IPv6, or without policy rules: there are none.
                    NetlinkPayload::Error(error)
                        if matches!(
                            error.to_io().raw_os_error(),
                            Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP)
                        ) => {}
                    NetlinkPayload::Error(error) => {
                        return Err(NetlinkError::new(operation, rtnetlink::Error::NetlinkError(error)));
                    }
                    _ => {}
                }
            }
        }
        Ok(rules)
    }

    /// Adds a rule.
    pub async fn add(&self, rule: &Rule) -> Result<(), NetlinkError> {
        let operation = format!("adding the rule {rule}");
        let result = self
            .netlink
            .acknowledged(&operation, RouteNetlinkMessage::NewRule(message(rule)), NLM_F_CREATE | NLM_F_EXCL)
            .await;
        result.map_err(|error| match error.code() {
            Some(libc::EEXIST) => NetlinkError::Protocol {
                operation,
                reason:
                    "somebody else has the same rule: delete that one, or give this one another `priority`"
                        .to_owned(),
            },
            Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP) => NetlinkError::Protocol {
                operation,
                reason: "the kernel has no policy rules (CONFIG_IP_MULTIPLE_TABLES)".to_owned(),
            },
            _ => error,
        })
    }

    /// Deletes a rule; one that is not there is deleted already.
    pub async fn delete(&self, rule: &Rule) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::DelRule(message(rule));
        match self.netlink.acknowledged(&format!("deleting the rule {rule}"), message, 0).await {
            Err(error)
                if !matches!(error.code(), Some(libc::ENOENT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) =>
            {
                Err(error)
            }
            _ => Ok(()),
        }
    }
}

/// Whether it is one of ours.
pub(super) fn is_own(message: &RuleMessage) -> bool {
    message.attributes.contains(&RuleAttribute::Protocol(RouteProtocol::from(ROUTE_PROTOCOL)))
}

fn message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = if rule.is_ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    message.header.action = RuleAction::ToTable;
    let mut attributes = vec![
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::Table(rule.table),
        RuleAttribute::Protocol(RouteProtocol::from(ROUTE_PROTOCOL)),
    ];
    if let Some(from) = rule.from {
        message.header.src_len = from.prefix_len();
        attributes.push(RuleAttribute::Source(from.addr()));
    }
    if let Some(to) = rule.to {
        message.header.dst_len = to.prefix_len();
        attributes.push(RuleAttribute::Destination(to.addr()));
    }
    if let Some((mark, mask)) = rule.mark {
        attributes.extend([RuleAttribute::FwMark(mark), RuleAttribute::FwMask(mask)]);
    }
    attributes.extend(rule.iif.clone().map(RuleAttribute::Iifname));
    attributes.extend(rule.oif.clone().map(RuleAttribute::Oifname));
    message.attributes = attributes;
    message
}

fn parse(message: &RuleMessage) -> Option<Rule> {
    if !is_own(message) {
        return None;
    }
    let header = &message.header;
    let mut rule = Rule {
        is_ipv6: header.family == AddressFamily::Inet6,
        from: None,
        to: None,
        iif: None,
        oif: None,
        mark: None,
        priority: 0,
        table: header.table.into(),
    };
    let (mut mark, mut mask) = (None, u32::MAX);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Source(address) => rule.from = IpNet::new(*address, header.src_len).ok(),
            RuleAttribute::Destination(address) => rule.to = IpNet::new(*address, header.dst_len).ok(),
            RuleAttribute::Iifname(name) => rule.iif = Some(name.clone()),
            RuleAttribute::Oifname(name) => rule.oif = Some(name.clone()),
            RuleAttribute::FwMark(value) => mark = Some(*value),
            RuleAttribute::FwMask(value) => mask = *value,
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Table(table) => rule.table = *table,
            _ => {}
        }
    }
    rule.mark = mark.map(|mark| (mark, mask));
    Some(rule)
}
