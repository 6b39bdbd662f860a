//! What can happen to a cable, and cables past the switch.

use std::net::Ipv4Addr;

use nix::unistd::Pid;

use super::{Lab, Link, error::LabError, network::in_switch, node::Node};

/// One end of a cable between two nodes.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Where it is plugged in.
    pub node: &'a Node,
    /// What the interface is to be called.
    pub interface: &'a str,
    /// Its address, which the MAC address is made of too (see [`Link::mac`]).
    pub address: Ipv4Addr,
    /// Bits of the address that name the network.
    pub prefix: u8,
}

impl End<'_> {
    /// As a link of its node.
    pub fn link(&self) -> Link {
        Link {
            segment: String::new(),
            interface: self.interface.to_owned(),
            address: self.address,
            prefix: self.prefix,
            peer_xdp: false,
        }
    }
}

/// The state of the cable between a node's interface and the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cable {
    /// As it should be.
    Whole,
    /// The node has no carrier.
    Pulled,
    /// The node has carrier, but nothing that it sends gets any further, and nothing reaches it.
    Cut,
}

impl Lab {
    /// Joins two nodes by a cable of their own: a veth pair without a bridge, which would cost more than what is measured.
    pub fn join(&self, ends: [End<'_>; 2]) -> Result<(), LabError> {
        let [one, other] = ends;
        let end = |end: End<'_>| {
            format!("{} address {} netns {}", end.interface, end.link().mac(), end.node.init())
        };
        let line = format!("link add {} type veth peer name {}\n", end(one), end(other));
        in_switch(Pid::from_raw(self.state.switch), &line)?;
        for End { node, interface, address, prefix } in ends {
            node.run(&["ip", "link", "set", interface, "up"])?;
            node.run(&["ip", "address", "add", &format!("{address}/{prefix}"), "dev", interface])?;
        }
        Ok(())
    }

    /// Brings the cables of all interfaces of `node` into a state.
    pub fn set_cable(&self, node: &Node, cable: Cable) -> Result<(), LabError> {
        let line = |link: &Link| {
            let (port, segment) = (link.port(node.name()), &link.segment);
            match cable {
                Cable::Whole => format!("link set {port} up\nlink set {port} master br-{segment}\n"),
                Cable::Pulled => format!("link set {port} down\n"),
                Cable::Cut => format!("link set {port} nomaster\n"),
            }
        };
        let lines: String = node.spec.links.iter().map(line).collect();
        in_switch(Pid::from_raw(self.state.switch), &lines)
    }
}
