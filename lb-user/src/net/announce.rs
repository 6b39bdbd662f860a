//! Tells every host of a network which MAC an address has now: gratuitous ARP for IPv4, unsolicited neighbour
//! advertisements for IPv6; and when to repeat it.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

use lb_common::Mac;

use super::{advertisement, arp};
use crate::time::Timestamp;

/// Why an address could not be announced.
#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    /// The socket could not be opened.
    #[error(
        "packet socket for gratuitous ARP: {0} (it needs CAP_NET_RAW: run as root, or give the capability)"
    )]
    Open(#[source] io::Error),
    /// A frame could not be sent.
    #[error("announcing {address} on interface number {index}: {error}")]
    Send {
        /// The address announced.
        address: IpAddr,
        /// The interface index.
        index: u32,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
}

/// A packet socket that announces addresses through any Ethernet interface of this network namespace. It
/// receives nothing.
#[derive(Debug)]
pub struct Announcer(OwnedFd);

impl Announcer {
    /// Opens the socket. Needs CAP_NET_RAW.
    pub fn open() -> Result<Self, AnnounceError> {
        // SAFETY: no pointers are passed. Protocol 0: the socket receives nothing.
        let fd = unsafe {
            libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0)
        };
        if fd < 0 {
            return Err(AnnounceError::Open(io::Error::last_os_error()));
        }
        // SAFETY: the kernel has just given this descriptor to us and to nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Announces once that `address` is at `mac`. Never waits.
    ///
    /// `index` and `mac` are those of the interface (or of the virtual router, when it has a MAC of its own).
    pub fn announce(&self, index: u32, mac: Mac, address: IpAddr) -> Result<(), AnnounceError> {
        let sent = match address {
            IpAddr::V4(address) => {
                arp::frames(mac, address).iter().try_for_each(|frame| self.send(index, frame))
            }
            IpAddr::V6(address) => self.send(index, &advertisement::frame(mac, address)),
        };
        sent.map_err(|error| AnnounceError::Send { address, index, error })
    }

    /// Sends an Ethernet frame as it is.
    fn send(&self, index: u32, frame: &[u8]) -> io::Result<()> {
        let mut target = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: u16::from_ne_bytes([frame[12], frame[13]]),
            sll_ifindex: i32::try_from(index).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: [0; 8],
        };
        target.sll_addr[..6].copy_from_slice(&frame[..6]);
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
    refresh: Option<Timestamp>,
    first: Option<Timestamp>,
    second: Option<Timestamp>,
}

impl AnnounceSchedule {
    /// A schedule with nothing to do.
    pub const fn idle() -> Self {
        Self { refresh: None, first: None, second: None }
    }

    /// Begins anew: the node became owner, or must repeat itself.
    pub fn begin(&mut self, now: Timestamp) {
        *self = Self { refresh: None, first: Some(now), second: Some(now + SECOND_BURST_AFTER) };
    }

    /// Once, now, beside what is to come anyway.
    pub fn refresh(&mut self, now: Timestamp) {
        self.refresh = Some(now);
    }

    /// Forgets what was to come: the node is no longer owner.
    pub fn cancel(&mut self) {
        *self = Self::idle();
    }

    /// How many announcements of each address to send now; counts them as sent.
    pub fn due(&mut self, now: Timestamp) -> u32 {
        let mut due = u32::from(self.refresh.take_if(|at| *at <= now).is_some());
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
        self.refresh.or(self.first).or(self.second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn schedule_is_refreshed_by_one_announcement_which_a_burst_includes() {
        let mut schedule = AnnounceSchedule::idle();
        schedule.refresh(Timestamp(7));
        assert_eq!(schedule.next(), Some(Timestamp(7)));
        assert_eq!((schedule.due(Timestamp(7)), schedule.next()), (1, None));
        schedule.begin(Timestamp(8));
        schedule.refresh(Timestamp(8));
        assert_eq!(schedule.due(Timestamp(8)), BURST);
        assert_eq!(schedule.due(Timestamp(9)), 0);
    }

    #[test]
    fn schedule_that_is_late_for_both_bursts_sends_one() {
        let mut schedule = AnnounceSchedule::idle();
        schedule.begin(Timestamp(0));
        assert_eq!((schedule.due(Timestamp(u64::MAX)), schedule.next()), (BURST, None));
    }
}
