//! What each verdict means for a packet, and what to do about it.

use lb_common::Verdict;

use super::explain::{Explanation, backend_name};

/// A verdict in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) meaning: String,
    pub(super) remedy: Option<String>,
}

/// As it should be.
fn fine(meaning: impl Into<String>) -> Words {
    Words { meaning: meaning.into(), remedy: None }
}

/// Not as one would have it.
fn mend(meaning: impl Into<String>, remedy: impl Into<String>) -> Words {
    Words { meaning: meaning.into(), remedy: Some(remedy.into()) }
}

/// Puts a verdict about the packet of `about` into words. Every verdict has its own: one that is new does not compile
/// without.
#[expect(clippy::too_many_lines, reason = "a table, of which each verdict is a row")]
pub(super) fn words(verdict: Verdict, about: &Explanation) -> Words {
    let Facts { vip, client, target, service, backend, neighbour, out, interface } = &Facts::of(about);
    match verdict {
        Verdict::NotOurs => mend(
            "not for a VIP: passed to the stack untouched",
            format!(
                "if {vip} should be a VIP here, a [[service]] of this node must name it; `lb status` shows them"
            ),
        ),
        Verdict::OtherMac => mend(
            "in a frame for another machine's MAC address: passed to the stack untouched, which leaves it alone".to_owned(),
            format!(
                "nothing, if a switch flooded it; `ip neighbour show {vip}` on the client or its router says whom it takes for the owner"
            ),
        ),
        Verdict::VirtualMacNotOwner => mend(
            format!("in a frame for the virtual MAC address of {vip}, which another node owns: dropped here"),
            "nothing, if it is rare: a switch flooded it, or had yet to learn where the owner is",
        ),
        Verdict::ArpOwner => fine(format!("this node owns {vip}, so its kernel answers who asks for it")),
        Verdict::ArpNotOwner => mend(
            format!("another node owns {vip} and answers who asks for it: dropped here"),
            "nothing, if the owner answers; `lb status` on each node says which it is",
        ),
        Verdict::ArpLeaseExpired => mend(
            format!("the lease of {vip} has run out, so this node does not answer who asks for it: dropped"),
            LEASE_REMEDY,
        ),
        Verdict::VipStack => mend(
            format!(
                "no service takes {target}; this node owns the VIP, or did a moment ago, so its own stack gets the packet"
            ),
            format!("to have it balanced, name the port in a [[service]] of {vip}"),
        ),
        Verdict::NotAccepted => mend(
            format!("no service takes {target}, and the owner is told not to accept such packets: dropped"),
            format!("accept = true in the [[virtual_router]], or a [[service]] of {vip} that names the port"),
        ),
        Verdict::VipNotOwner => mend(
            format!("no service takes {target}, and another node owns the VIP: dropped here"),
            format!(
                "ask the owner, which clients' packets should come to; to have it balanced, name the port in a [[service]] of {vip}"
            ),
        ),
        Verdict::LeaseExpired => mend(
            format!(
                "the lease of {vip} has run out: another node may own it by now, so this one is silent and drops"
            ),
            LEASE_REMEDY,
        ),
        Verdict::Fragment => mend(
            format!("a fragment to {vip}, but to no service of it: passed to the stack"),
            format!("to have it balanced, name its port in a [[service]] of {vip}"),
        ),
        Verdict::FragmentUnknown => mend(
            "a later fragment, and its first, which has the ports, was not seen here of late: passed to the stack",
            "nothing, if it is rare: the sender repeats the datagram; otherwise lower the sender's MTU",
        ),
        Verdict::Malformed => mend(
            "its lengths or checksum contradict the packet: dropped",
            format!("look at what {client} sends: `tcpdump -vv -i {interface} host {client}`"),
        ),
        Verdict::Delivered => fine(format!(
            "it comes from another director, which has steered it here: delivered to this node's own backend of {service}"
        )),
        Verdict::Local => fine("this node serves it itself: up its own stack"),
        Verdict::Dr => fine(format!(
            "sent to {backend} by its MAC address; the IP packet stays as it is but for the TTL"
        )),
        Verdict::Nat => {
            fine(format!("sent to {backend}, which becomes its destination; the reply comes back this way"))
        }
        Verdict::Ipip => fine(format!("sent to {backend} within an IP packet")),
        Verdict::Gue => fine(format!("sent to {backend} within a UDP datagram to port 6080")),
        Verdict::Decapsulated => {
            fine("another director has packed it up for this node's own backend: unpacked and delivered")
        }
        Verdict::TunnelStranger => mend(
            "packed up for this node's own backend, but by somebody whom `tunnel_sources` does not name: passed to the stack",
            "if it is a director, name its address: tunnel_sources in [daemon]",
        ),
        Verdict::TooBigAnswered => fine(format!(
            "too big for the way to {backend}: {client} is told by an ICMP error how much fits, and sends smaller packets"
        )),
        Verdict::TooBigLimited => mend(
            format!(
                "too big for the way to {backend}, and this node has told senders so as often as it may for now: dropped"
            ),
            format!(
                "raise the MTU on the way from {out} to {backend}, or lower the MSS that clients are told"
            ),
        ),
        Verdict::TooBigDropped => mend(
            format!("too big for the way to {backend}, and nobody can be told so: dropped"),
            format!("raise the MTU on the way from {out} to {backend}"),
        ),
        Verdict::NatReply => {
            fine("a `nat` backend's reply: its source becomes the VIP, and it is sent to the client")
        }
        Verdict::IcmpError => {
            fine(format!("an ICMP error about a flow of {service}: sent to the flow's backend, {backend}"))
        }
        Verdict::IcmpErrorLocal => fine(format!(
            "an ICMP error about a flow of {service} that this node serves itself: up its own stack"
        )),
        Verdict::IcmpErrorReply => fine(
            "an ICMP error about a packet to a `nat` backend, made one about the client's packet: sent to the client",
        ),
        Verdict::NoBackend => mend(
            format!("no backend of {service} can take it: none is up, or none has a weight above 0: dropped"),
            "`lb status` says why each backend is down; once a check passes the service goes on by itself",
        ),
        Verdict::NoNeighbour => mend(
            format!("nobody knows the MAC address of {neighbour}, on the way to {backend}: dropped"),
            format!(
                "is {neighbour} up, and in the network of {out}? `ping {neighbour}`, `ip neighbour show {neighbour}`"
            ),
        ),
        Verdict::NoRoute => mend(
            format!(
                "a `nat` backend's reply, and the kernel knows no way to {vip}, or not its MAC address: dropped"
            ),
            format!("`ip route get {vip}` shows the way, `ip neighbour` whether its next hop answers"),
        ),
        Verdict::ForwardingOff => mend(
            format!(
                "from a `nat` backend, but the kernel does not forward what comes in by {interface}: passed untouched"
            ),
            format!(
                "`sysctl -w net.ipv4.conf.{interface}.forwarding=1` (net.ipv6.conf.all.forwarding for IPv6)"
            ),
        ),
        Verdict::TooLong => mend(
            format!("GRO or TSO made it longer than {out} takes in generic mode: dropped"),
            format!("`ethtool -K {interface} gro off`, or native mode where the driver has it"),
        ),
        Verdict::TtlExpired => mend(
            "its TTL ends here: dropped",
            format!(
                "`traceroute` does this on purpose; otherwise look for a loop between {client} and this node"
            ),
        ),
        Verdict::StageMissing => mend(
            "a rare stage of the program should go on with it and is not there, which is a fault of lb: passed untouched",
            REPORT,
        ),
        Verdict::Internal => {
            mend("a map lacks an entry that must be there, which is a fault of lb: dropped", REPORT)
        }
    }
}

const LEASE_REMEDY: &str = "the daemon did not renew it in time: frozen, starved, or unable to send adverts? Its log and \
                            `lb status` say; it speaks again once it owns the VIP anew";

const REPORT: &str =
    "restart lb, which loads everything anew, and report it with this output and that of `lb status --json`";

/// What the words speak of; where something was not found, a word for it.
struct Facts {
    vip: String,
    client: String,
    /// For instance "tcp port 80 of 172.20.128.4".
    target: String,
    service: String,
    backend: String,
    neighbour: String,
    /// The interface it leaves through.
    out: String,
    /// The interface it comes in by.
    interface: String,
}

impl Facts {
    fn of(about: &Explanation) -> Self {
        let packet = &about.packet;
        let (vip, port) = (packet.destination.ip(), packet.destination.port());
        let hop = about.next_hop.as_ref();
        let backend =
            about.backend.as_ref().map_or("the backend".into(), |b| backend_name(b.address, b.port));
        Self {
            vip: vip.to_string(),
            client: packet.source.ip().to_string(),
            target: format!("{} port {port} of {vip}", packet.protocol),
            service: about.service.as_ref().map_or("the service".into(), |service| service.name.clone()),
            neighbour: hop.and_then(|h| h.neighbour).map_or_else(|| backend.clone(), |n| n.to_string()),
            backend,
            out: hop.map_or("the interface it would leave by".into(), |hop| hop.interface.clone()),
            interface: packet.interface.clone(),
        }
    }
}
