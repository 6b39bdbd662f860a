//! More packets than anybody asked for.

use std::{
    io,
    net::SocketAddrV4,
    thread,
    time::{Duration, Instant},
};

use super::{
    arp::ETHERTYPE_ARP,
    packet::{PacketSocket, udp_frame},
};
use crate::lab::{error::LabError, node::Node};

/// How often a burst is sent.
const TICK: Duration = Duration::from_millis(1);
/// The discard service: nobody listens there.
const DISCARD: u16 = 9;
/// The shortest frame that Ethernet has, 60 bytes, less the headers.
const PAYLOAD: usize = 60 - 14 - 20 - 8;

/// Sends `rate` UDP datagrams a second from `from` to the first address of `to`, evenly spread over the milliseconds of
/// `duration`, and returns how many it could send.
pub fn flood(from: &Node, to: &Node, rate: u32, duration: Duration) -> Result<u128, LabError> {
    let what = format!("flooding {} from {}", to.name(), from.name());
    let Some(mac) = to.mac() else {
        return Err(LabError::Unexpected { what, detail: "it has no interface".to_owned() });
    };
    let (source, target) =
        (SocketAddrV4::new(from.address(), DISCARD), SocketAddrV4::new(to.address(), DISCARD));
    from.within(|| -> io::Result<u128> {
        let socket = PacketSocket::open("eth0", ETHERTYPE_ARP)?;
        let frame = udp_frame(socket.mac, mac, source, target, &[0; PAYLOAD]);
        let (start, mut sent) = (Instant::now(), 0);
        while start.elapsed() < duration {
            // What a late tick missed is made up for: the rate is what counts.
            let due = start.elapsed().as_micros() * u128::from(rate) / 1_000_000;
            while sent < due && start.elapsed() < duration {
                match socket.send(&frame) {
                    Ok(()) => sent += 1,
                    // The queue is full: it has as much as it takes.
                    Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => break,
                    Err(error) => return Err(error),
                }
            }
            thread::sleep(TICK);
        }
        Ok(sent)
    })?
    .map_err(LabError::io(what))
}
