//! Gratuitous ARP: tells every host of a network which MAC an address has now.
//!
//! Both forms are sent, one after the other: the request (RFC 3768 §6.4.1, RFC 5227 §3: an ARP announcement)
//! and the reply, with the sender as target too. Some stacks update their caches by one form only; Linux
//! takes either.

use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

use lb_common::Mac;

use crate::time::Timestamp;

const ETHERTYPE_ARP: u16 = 0x0806;
const OPERATION_REQUEST: u8 = 1;
const OPERATION_REPLY: u8 = 2;
const BROADCAST: [u8; 6] = [0xff; 6];
/// Ethernet and ARP header, without padding, which the driver adds.
const FRAME_LENGTH: usize = 42;

/// Why gratuitous ARP could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum ArpError {
    /// The socket could not be opened.
    #[error(
        "packet socket for gratuitous ARP: {0} (it needs CAP_NET_RAW: run as root, or give the capability)"
    )]
    Open(#[source] io::Error),
    /// A frame could not be sent.
    #[error("gratuitous ARP for {address} on interface number {index}: {error}")]
    Send {
        /// The address announced.
        address: Ipv4Addr,
        /// The interface index.
        index: u32,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
}

/// A packet socket that sends gratuitous ARP through any Ethernet interface of this network namespace. It
/// receives nothing.
#[derive(Debug)]
pub struct ArpSocket(OwnedFd);

impl ArpSocket {
    /// Opens the socket. Needs CAP_NET_RAW.
    pub fn open() -> Result<Self, ArpError> {
        // SAFETY: no pointers are passed. Protocol 0: the socket receives nothing.
        let fd = unsafe {
            libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0)
        };
        if fd < 0 {
            return Err(ArpError::Open(io::Error::last_os_error()));
        }
        // SAFETY: the kernel has just given this descriptor to us and to nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Announces once, in both forms, that `address` is at `mac`. Never waits.
    ///
    /// `index` and `mac` are those of the interface (or of the virtual router, when it has a MAC of its own).
    pub fn announce(&self, index: u32, mac: Mac, address: Ipv4Addr) -> Result<(), ArpError> {
        for operation in [OPERATION_REQUEST, OPERATION_REPLY] {
            self.send(index, &frame(operation, mac, address)).map_err(|error| ArpError::Send {
                address,
                index,
                error,
            })?;
        }
        Ok(())
    }

    fn send(&self, index: u32, frame: &[u8; FRAME_LENGTH]) -> io::Result<()> {
        let mut link_address = [0; 8];
        link_address[..6].copy_from_slice(&BROADCAST);
        let target = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: ETHERTYPE_ARP.to_be(),
            sll_ifindex: i32::try_from(index).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: link_address,
        };
        // SAFETY: both pointers are to values that live until the call returns, with their lengths beside them.
        let sent = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const target).cast(),
                size_of_val(&target) as libc::socklen_t,
            )
        };
        // A packet socket sends all or nothing.
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// A broadcast Ethernet frame with the gratuitous ARP. The target MAC is unknown in a request (zeros), and
/// the sender's in a reply: Linux takes a reply for gratuitous only then.
fn frame(operation: u8, mac: Mac, address: Ipv4Addr) -> [u8; FRAME_LENGTH] {
    let target_mac = if operation == OPERATION_REPLY { mac.0 } else { [0; 6] };
    let mut frame = [0; FRAME_LENGTH];
    frame[..6].copy_from_slice(&BROADCAST);
    frame[6..12].copy_from_slice(&mac.0);
    frame[12..14].copy_from_slice(&ETHERTYPE_ARP.to_be_bytes());
    // Ethernet (1), IPv4 (0x0800), lengths 6 and 4, operation.
    frame[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, operation]);
    frame[22..28].copy_from_slice(&mac.0);
    frame[28..32].copy_from_slice(&address.octets());
    frame[32..38].copy_from_slice(&target_mac);
    frame[38..42].copy_from_slice(&address.octets());
    frame
}

/// How many announcements a burst has.
pub const BURST: u32 = 5;
/// When the second burst follows the first.
pub const SECOND_BURST_AFTER: Duration = Duration::from_secs(5);

/// When a new owner announces its addresses: a burst at once, since any single frame may be lost, and another
/// after five seconds, for switches and hosts that were not ready for the first.
///
/// Without I/O: ask [`due`](Self::due) how often to announce now, and come back at [`next`](Self::next).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnnounceSchedule {
    first: Option<Timestamp>,
    second: Option<Timestamp>,
}

impl AnnounceSchedule {
    /// A schedule with nothing to do.
    pub const fn idle() -> Self {
        Self { first: None, second: None }
    }

    /// Begins anew: the node became owner, or must repeat itself.
    pub fn begin(&mut self, now: Timestamp) {
        *self = Self { first: Some(now), second: Some(now + SECOND_BURST_AFTER) };
    }

    /// Forgets what was to come: the node is no longer owner.
    pub fn cancel(&mut self) {
        *self = Self::idle();
    }

    /// How many announcements of each address to send now; counts them as sent.
    pub fn due(&mut self, now: Timestamp) -> u32 {
        let mut due = 0;
        for burst in [&mut self.first, &mut self.second] {
            if burst.is_some_and(|at| at <= now) {
                *burst = None;
                // Late for both: one burst says all there is to say.
                due = BURST;
            }
        }
        due
    }

    /// When the next burst is due.
    pub fn next(&self) -> Option<Timestamp> {
        self.first.or(self.second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 4);

    #[test]
    fn request_and_reply_are_gratuitous_as_written_on_the_wire() {
        let expected = [
            (OPERATION_REQUEST, [0; 6]), // RFC 5227 §3: the target hardware address is not used
            (OPERATION_REPLY, MAC.0),
        ];
        for (operation, target_mac) in expected {
            let mut bytes = vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 7, 0x08, 0x06];
            bytes.extend([0, 1, 0x08, 0x00, 6, 4, 0, operation]);
            bytes.extend([2, 0, 0, 0, 0, 7, 192, 0, 2, 4]);
            bytes.extend(target_mac);
            bytes.extend([192, 0, 2, 4]);
            assert_eq!(frame(operation, MAC, ADDRESS).as_slice(), bytes);
        }
    }

    #[test]
    fn schedule_is_a_burst_now_and_one_in_five_seconds() {
        let start = Timestamp(1_000);
        let mut schedule = AnnounceSchedule::idle();
        assert_eq!((schedule.due(start), schedule.next()), (0, None));

        schedule.begin(start);
        assert_eq!(schedule.next(), Some(start));
        assert_eq!(schedule.due(start), BURST);
        let second = start + SECOND_BURST_AFTER;
        assert_eq!((schedule.due(Timestamp(second.0 - 1)), schedule.next()), (0, Some(second)));
        assert_eq!((schedule.due(second), schedule.next()), (BURST, None));
        assert_eq!(schedule.due(second), 0);
    }

    #[test]
    fn schedule_of_a_node_that_lost_the_address_is_cancelled() {
        let mut schedule = AnnounceSchedule::idle();
        schedule.begin(Timestamp(0));
        schedule.cancel();
        assert_eq!((schedule.due(Timestamp(u64::MAX)), schedule.next()), (0, None));
    }

    #[test]
    fn schedule_that_is_late_for_both_bursts_sends_one() {
        let mut schedule = AnnounceSchedule::idle();
        schedule.begin(Timestamp(0));
        assert_eq!((schedule.due(Timestamp(u64::MAX)), schedule.next()), (BURST, None));
    }
}
