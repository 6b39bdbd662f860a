//! Asks the kernel which XDP features each interface has: the generic netlink family `netdev`, since Linux 6.3. It tells
//! the interfaces of the namespace that the asking thread is in.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

// linux/netlink.h
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const MESSAGE_HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;
// linux/genetlink.h
const GENL_ID_CTRL: u16 = 0x10;
const GENL_HEADER: usize = 4;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
// linux/netdev.h
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;

/// An interface's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) features: Features,
}

/// `enum netdev_xdp_act`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Features(u64);

impl Features {
    /// Native XDP: programs run in the driver.
    pub(super) fn native(self) -> bool {
        self.0 & 1 != 0
    }

    /// For people: mode and what it can do.
    pub(super) fn describe(self) -> String {
        if !self.native() {
            return "generic only".to_owned();
        }
        let names = [
            "pass, drop and tx",
            "redirect",
            "target of a redirect",
            "zero-copy sockets",
            "offload",
            "jumbo frames",
        ];
        let can: Vec<&str> = names
            .iter()
            .enumerate()
            .filter(|(bit, _)| self.0 & (1 << bit) != 0)
            .map(|(_, name)| *name)
            .collect();
        format!("native: {}", can.join(", "))
    }
}

/// All interfaces of this thread's namespace.
///
/// # Errors
/// The kernel has no such family (before 6.3), or refuses to answer.
pub(super) fn devices() -> io::Result<Vec<Device>> {
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkGeneric)?;
    let family = family(&socket)?;
    let answers = ask(&socket, &request(family, NLM_F_REQUEST | NLM_F_DUMP, NETDEV_CMD_DEV_GET, &[]))?;
    Ok(answers.iter().filter_map(|answer| device(answer)).collect())
}

/// The number that this kernel gave the family.
fn family(socket: &OwnedFd) -> io::Result<u16> {
    let name = attribute(CTRL_ATTR_FAMILY_NAME, b"netdev\0");
    let answers = ask(socket, &request(GENL_ID_CTRL, NLM_F_REQUEST | NLM_F_ACK, CTRL_CMD_GETFAMILY, &name))?;
    let number =
        answers.iter().flat_map(|answer| attributes(answer)).find(|(kind, _)| *kind == CTRL_ATTR_FAMILY_ID);
    let number = number.and_then(|(_, value)| Some(u16::from_ne_bytes(value.get(..2)?.try_into().ok()?)));
    number
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the kernel does not know the family netdev"))
}

fn device(answer: &[u8]) -> Option<Device> {
    let (mut index, mut features) = (None, None);
    for (kind, value) in attributes(answer) {
        match kind {
            NETDEV_A_DEV_IFINDEX => index = Some(u32::from_ne_bytes(value.get(..4)?.try_into().ok()?)),
            NETDEV_A_DEV_XDP_FEATURES => {
                features = Some(u64::from_ne_bytes(value.get(..8)?.try_into().ok()?));
            }
            _ => {}
        }
    }
    let name = nix::net::if_::if_indextoname(index?).ok()?;
    Some(Device { name: name.to_string_lossy().into_owned(), features: Features(features?) })
}

/// Sends a request and collects the answers' attributes, up to the end of a dump or to the acknowledgement.
fn ask(socket: &OwnedFd, request: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    sendto(socket.as_raw_fd(), request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answers = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        for (kind, body) in messages(&buffer[..length]) {
            match kind {
                NLMSG_DONE => return Ok(answers),
                NLMSG_ERROR => {
                    let code =
                        body.get(..4).and_then(|code| code.try_into().ok()).map_or(0, i32::from_ne_bytes);
                    return if code == 0 { Ok(answers) } else { Err(io::Error::from_raw_os_error(-code)) };
                }
                _ => answers.push(body.get(GENL_HEADER..).unwrap_or_default().to_vec()),
            }
        }
    }
}

/// `struct nlmsghdr`, `struct genlmsghdr`, attributes.
fn request(family: u16, flags: u16, command: u8, attributes: &[u8]) -> Vec<u8> {
    let length = (MESSAGE_HEADER + GENL_HEADER + attributes.len()) as u32;
    let mut message = Vec::with_capacity(length as usize);
    message.extend(length.to_ne_bytes());
    message.extend(family.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]); // sequence number and port: there is one question at a time
    message.extend([command, 1, 0, 0]);
    message.extend(attributes);
    message
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = (ATTRIBUTE_HEADER + value.len()) as u16;
    let mut attribute = Vec::new();
    attribute.extend(length.to_ne_bytes());
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

/// Type and body of each message.
fn messages(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut messages = Vec::new();
    while let Some(header) = bytes.get(..MESSAGE_HEADER) {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;

        let Some(body) = bytes.get(MESSAGE_HEADER..length) else { break };
        messages.push((u16::from_ne_bytes([header[4], header[5]]), body));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    messages
}

/// Type and value of each attribute.
fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    const TYPE_MASK: u16 = 0x3fff;
    let mut attributes = Vec::new();
    while let Some(header) = bytes.get(..ATTRIBUTE_HEADER) {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let Some(value) = bytes.get(ATTRIBUTE_HEADER..length) else { break };
        attributes.push((u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK, value));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_read_back() {
        let mut bytes = attribute(CTRL_ATTR_FAMILY_NAME, b"netdev\0");
        assert_eq!(bytes.len(), 12, "11 bytes and one of padding");
        bytes.extend(attribute(CTRL_ATTR_FAMILY_ID, &7_u16.to_ne_bytes()));
        let expected: [(u16, &[u8]); 2] = [(2, b"netdev\0"), (1, &7_u16.to_ne_bytes())];
        assert_eq!(attributes(&bytes), expected);
    }

    #[test]
    fn lengths_that_lie_end_the_reading() {
        let mut bytes = attribute(3, &[1, 2, 3, 4]);
        bytes[..2].copy_from_slice(&200_u16.to_ne_bytes());
        assert!(attributes(&bytes).is_empty(), "longer than there is");
        bytes[..2].copy_from_slice(&0_u16.to_ne_bytes());
        assert!(attributes(&bytes).is_empty(), "shorter than its own header");

        let mut message = request(16, 1, 3, &[]);
        message[..4].copy_from_slice(&4_u32.to_ne_bytes());
        assert!(messages(&message).is_empty(), "shorter than its own header");
    }

    #[test]
    fn features_are_told_in_words() {
        for (bits, expected) in [
            (0, "generic only"),
            (1, "native: pass, drop and tx"),
            (0b10_0111, "native: pass, drop and tx, redirect, target of a redirect, jumbo frames"),
        ] {
            assert_eq!(Features(bits).describe(), expected);
        }
    }
}
