//! Forgetting what connection tracking remembers, so that new flows meet the same table in every round.

use std::os::fd::AsRawFd as _;

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use super::{
    super::{BenchError, failed},
    live,
};

/// `nfnetlink`'s number of connection tracking's message to delete, and of the subsystem (see `linux/netfilter/nfnetlink.h`
/// and `nfnetlink_conntrack.h`).
const DELETE: u16 = 1 << 8 | 2;
const REQUEST_WITH_ANSWER: u16 = 1 | 4;
const ERROR: u16 = 2;

/// Deletes all entries of the network namespace of a process.
pub(super) fn forget(process: i32) -> Result<(), BenchError> {
    let socket = live::within(process, || {
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter)
    })?
    .map_err(failed("open a netlink socket"))?;
    let mut message = Vec::with_capacity(20);
    message.extend(20_u32.to_ne_bytes());
    message.extend(DELETE.to_ne_bytes());
    message.extend(REQUEST_WITH_ANSWER.to_ne_bytes());
    message.extend([0; 8]);
    // Every family, version 0, no resource: without a tuple all entries are meant.
    message.extend([0; 4]);
    send(socket.as_raw_fd(), &message, MsgFlags::empty()).map_err(failed("flush connection tracking"))?;
    let mut answer = [0; 256];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())
        .map_err(failed("flush connection tracking"))?;
    match outcome(&answer[..length]) {
        Some(0) => Ok(()),
        Some(errno) => Err(failed("flush connection tracking")(std::io::Error::from_raw_os_error(-errno))),
        None => Err(failed("flush connection tracking")("the kernel's answer is none")),
    }
}

/// The error number, negative, of an answer.
fn outcome(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    (kind == ERROR).then(|| answer.get(16..20)?.try_into().ok().map(i32::from_ne_bytes)).flatten()
}
