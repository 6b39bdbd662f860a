//! Asks by ARP who has an address and collects everyone who answers.

use std::{
    collections::BTreeSet,
    io,
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use super::packet::PacketSocket;
use crate::lab::{error::LabError, node::Node, spec::MacAddress, wait::interrupted};

pub(crate) const ETHERTYPE_ARP: u16 = 0x0806;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;
/// Ethernet header and ARP packet.
const FRAME_BYTES: usize = 14 + 28;

/// How long answers to one request are collected. A frozen node's kernel answers as fast as any.
const WINDOW: Duration = Duration::from_millis(100);

/// The MAC addresses that answered each of a row of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArpReport {
    /// One entry a request.
    pub rounds: Vec<Vec<MacAddress>>,
}

impl ArpReport {
    /// Everyone who answered any request.
    pub fn answerers(&self) -> BTreeSet<MacAddress> {
        self.rounds.iter().flatten().copied().collect()
    }

    /// Whether every request had exactly one answer, and it was from `mac`.
    pub fn always_only(&self, mac: MacAddress) -> bool {
        !self.rounds.is_empty() && self.rounds.iter().all(|answers| *answers == [mac])
    }
}

/// Asks from `node`'s first interface who has `address`, again and again for `duration`.
pub fn ask(node: &Node, address: Ipv4Addr, duration: Duration) -> Result<ArpReport, LabError> {
    let (sender, interface) = (node.address(), node.interface());
    node.within(|| -> io::Result<ArpReport> {
        let socket = PacketSocket::open(&interface, ETHERTYPE_ARP)?;
        let request = request(socket.mac, sender, address);
        let (start, mut report) = (Instant::now(), ArpReport::default());
        while report.rounds.is_empty() || start.elapsed() < duration {
            if interrupted() {
                return Ok(report);
            }
            report.rounds.push(round(&socket, &request, address)?);
            thread::sleep(WINDOW.min(duration.saturating_sub(start.elapsed())));
        }
        Ok(report)
    })?
    .map_err(LabError::io(format!("asking from {} who has {address}", node.name())))
}

/// Asks once; everyone who answered.
pub fn ask_once(node: &Node, address: Ipv4Addr) -> Result<BTreeSet<MacAddress>, LabError> {
    Ok(ask(node, address, Duration::ZERO)?.answerers())
}

fn round(socket: &PacketSocket, request: &[u8], address: Ipv4Addr) -> io::Result<Vec<MacAddress>> {
    let (start, mut answers, mut buffer) = (Instant::now(), Vec::new(), [0; 128]);
    socket.send(request)?;
    while let Some(left) = WINDOW.checked_sub(start.elapsed()) {
        let Some(frame) = socket.receive(&mut buffer, left)? else { continue };
        answers.extend(answer(frame, socket.mac, address));
    }
    Ok(answers)
}

/// Hears what a node's first interface receives of ARP, from its opening on.
pub struct Listener {
    socket: PacketSocket,
    place: String,
}

impl Listener {
    /// Begins to listen.
    pub fn open(node: &Node) -> Result<Self, LabError> {
        let (interface, place) = (node.interface(), format!("listening to ARP on {}", node.name()));
        let socket = node
            .within(|| PacketSocket::open(&interface, ETHERTYPE_ARP))?
            .map_err(LabError::io(place.clone()))?;
        Ok(Self { socket, place })
    }

    /// Everyone who said by gratuitous ARP that `address` is its own, in the order of what has come since the last call.
    pub fn announcers(&self, address: Ipv4Addr) -> Result<Vec<MacAddress>, LabError> {
        let (mut macs, mut buffer) = (Vec::new(), [0; 128]);
        while let Some(frame) =
            self.socket.receive_now(&mut buffer).map_err(LabError::io(self.place.clone()))?
        {
            macs.extend(announcer(frame, address));
        }
        Ok(macs)
    }
}

/// An ARP request by broadcast (RFC 826).
pub(crate) fn request(mac: MacAddress, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::with_capacity(FRAME_BYTES);
    frame.extend([0xff; 6]);
    frame.extend(mac.0);
    for field in [ETHERTYPE_ARP, 1, 0x0800, 0x0604, REQUEST] {
        frame.extend(field.to_be_bytes());
    }
    frame.extend(mac.0);
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

/// The sender address of the question that a reply is about.
pub(crate) fn asked_from(reply: &[u8]) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = reply.get(38..42)?.try_into().ok()?;
    Some(octets.into())
}

/// Who says by gratuitous ARP, request or reply, that `address` is its own: sender and target are the same.
fn announcer(frame: &[u8], address: Ipv4Addr) -> Option<MacAddress> {
    let gratuitous = frame.get(28..32)? == address.octets() && frame.get(38..42)? == address.octets();
    gratuitous.then_some(MacAddress(frame.get(22..28)?.try_into().ok()?))
}

/// Who says in a reply to `asker` that `address` is its own. Gratuitous ARP is no answer: its target is somebody else.
pub(crate) fn answer(frame: &[u8], asker: MacAddress, address: Ipv4Addr) -> Option<MacAddress> {
    let field = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    let is_reply = field(12)? == ETHERTYPE_ARP && field(20)? == REPLY;
    let mac = MacAddress(frame.get(22..28)?.try_into().ok()?);
    let about = frame.get(28..32)? == address.octets();
    let to_asker = frame.get(32..38)? == asker.0;
    (is_reply && about && to_asker).then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKER: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
    const OWNER: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    fn reply(target: MacAddress) -> Vec<u8> {
        let mut frame = request(OWNER, ADDRESS, Ipv4Addr::new(10, 0, 0, 1));
        frame[21] = 2;
        frame[32..38].copy_from_slice(&target.0);
        frame
    }

    #[test]
    fn only_a_reply_to_the_asker_about_the_address_is_an_answer() {
        assert_eq!(answer(&reply(ASKER), ASKER, ADDRESS), Some(OWNER));
        assert_eq!(answer(&reply(MacAddress([0xff; 6])), ASKER, ADDRESS), None, "gratuitous");
        assert_eq!(answer(&reply(ASKER), ASKER, Ipv4Addr::new(10, 0, 0, 3)), None, "another address");
        assert_eq!(answer(&request(ASKER, ADDRESS, ADDRESS), ASKER, ADDRESS), None, "a request");
        assert_eq!(answer(&reply(ASKER)[..30], ASKER, ADDRESS), None, "cut off");
    }

    #[test]
    fn only_who_speaks_of_itself_to_everybody_announces() {
        assert_eq!(announcer(&request(OWNER, ADDRESS, ADDRESS), ADDRESS), Some(OWNER));
        assert_eq!(
            announcer(&request(OWNER, ADDRESS, ADDRESS), Ipv4Addr::LOCALHOST),
            None,
            "another address"
        );
        assert_eq!(announcer(&reply(ASKER), ADDRESS), None, "an answer");
        assert_eq!(announcer(&request(OWNER, ADDRESS, ADDRESS)[..40], ADDRESS), None, "cut off");
    }

    #[test]
    fn two_answers_to_one_request_are_noticed() {
        let report = ArpReport { rounds: vec![vec![OWNER], vec![OWNER, ASKER]] };
        assert!(!report.always_only(OWNER));
        assert!(!ArpReport::default().always_only(OWNER), "nobody asked");
        assert!(ArpReport { rounds: vec![vec![OWNER]] }.always_only(OWNER));
    }
}
