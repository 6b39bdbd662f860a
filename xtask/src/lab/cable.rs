//! What can happen to a cable.

use nix::unistd::Pid;

use super::{Lab, error::LabError, network::in_switch, node::Node};

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
    /// Brings the cables of all interfaces of `node` into a state.
    pub fn set_cable(&self, node: &Node, cable: Cable) -> Result<(), LabError> {
        let line = |link: &super::Link| {
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
