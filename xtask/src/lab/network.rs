//! Cables and addresses.

use std::{
    io::Write,
    os::fd::OwnedFd,
    process::{Command, Stdio},
};

use nix::unistd::Pid;

use super::{
    error::LabError,
    namespace::{spawn_in_network, spawn_in_node, within_network},
    spec::{LabSpec, NodeSpec, v6},
    xdp_pass,
};

/// Makes a bridge for every segment in the switch's namespace and plugs every link of every node into its own.
/// XDP programs on the bridge's ends stay for as long as the result is held.
pub(crate) fn build(
    spec: &LabSpec,
    switch: Pid,
    init_of: impl Fn(&str) -> Option<Pid>,
) -> Result<Vec<OwnedFd>, LabError> {
    let mut lines = vec!["link set lo up".to_owned()];
    for segment in spec.segments() {
        // No spanning tree, so that ports forward at once; no snooping, so that nothing is withheld from anyone.
        lines.push(format!(
            "link add br-{segment} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
             link set br-{segment} up"
        ));
    }
    for node in &spec.nodes {
        let Some(init) = init_of(&node.name) else { continue };
        for link in &node.links {
            let (port, interface) = (link.port(&node.name), &link.interface);
            lines.push(format!(
                "link add {port} type veth peer name {interface} address {mac} netns {init}\n\
                 link set {port} master br-{segment} up",
                mac = link.mac(),
                segment = link.segment,
            ));
        }
    }
    // In the network namespace only: `netns PID` means a process of the host.
    in_switch(switch, &lines.join("\n"))?;

    let mut programs = Vec::new();
    for node in &spec.nodes {
        let Some(init) = init_of(&node.name) else { continue };
        for link in node.links.iter().filter(|link| link.peer_xdp) {
            let port = link.port(&node.name);
            let program = within_network(switch, || xdp_pass::attach(&port))
                .flatten()
                .map_err(LabError::io(format!("attaching an XDP program to {port} of the switch")))?;
            programs.push(program);
        }
        let mut ip = Command::new("ip");
        ip.args(["-batch", "-"]);
        run("ip", &node.name, ip, &addressing(node), |command| spawn_in_node(init, command))?;
        for link in node.links.iter().filter(|_| node.vlan.is_some()) {
            // A cable carries tags in its frames. A veth would hand them over beside the packet, where no XDP program
            // sees them.
            let mut ethtool = Command::new("ethtool");
            ethtool.args(["-K", &link.interface, "tx-vlan-offload", "off"]);
            run("ethtool", &node.name, ethtool, "", |command| spawn_in_node(init, command))?;
        }
    }
    Ok(programs)
}

fn addressing(node: &NodeSpec) -> String {
    let mut lines = vec!["link set lo up".to_owned()];
    for link in &node.links {
        let (carrier, address, prefix) = (&link.interface, link.address, link.prefix);
        lines.push(format!("link set {carrier} up"));
        let interface = match node.vlan {
            None => carrier.clone(),
            Some(vlan) => {
                let interface = format!("{carrier}.{vlan}");
                lines.push(format!(
                    "link add link {carrier} name {interface} type vlan id {vlan}\nlink set {interface} up"
                ));
                interface
            }
        };
        lines.push(format!("addr add {address}/{prefix} brd + dev {interface}"));
        if node.ipv6 {
            // Nobody else has it, so it need not be looked for.
            let (address, prefix) = (link.address_v6(), link.prefix_v6());
            lines.push(format!("addr add {address}/{prefix} nodad dev {interface}"));
        }
    }
    if let Some(gateway) = node.default_route {
        lines.push(format!("route add default via {gateway}"));
        if node.ipv6 {
            lines.push(format!("route add default via {}", v6(gateway)));
        }
    }
    lines.join("\n")
}

/// Has `ip` carry out `lines` in the switch's namespace.
pub(crate) fn in_switch(switch: Pid, lines: &str) -> Result<(), LabError> {
    let mut ip = Command::new("ip");
    ip.args(["-batch", "-"]);
    run("ip", "the switch", ip, lines, |command| spawn_in_network(switch, command))
}

/// Runs a command to its end with `input` on its standard input.
fn run(
    program: &str,
    node: &str,
    mut command: Command,
    input: &str,
    spawn: impl FnOnce(Command) -> std::io::Result<std::process::Child>,
) -> Result<(), LabError> {
    let line = command_line(&command);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = spawn(command).map_err(|source| LabError::Start {
        program: program.to_owned(),
        node: node.to_owned(),
        source,
    })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that ends early says why itself.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(LabError::io(format!("waiting for `{line}`")))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(LabError::Command { command: line, node: node.to_owned(), status: output.status, output: text })
}

/// A command as one would type it.
pub(crate) fn command_line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_gets_all_its_addresses_and_its_route() {
        let mut node = NodeSpec::on_lan("n", [172, 20, 0, 1].into());
        node.default_route = Some([172, 20, 0, 9].into());
        assert_eq!(
            addressing(&node),
            "link set lo up\nlink set eth0 up\naddr add 172.20.0.1/16 brd + dev eth0\n\
             route add default via 172.20.0.9"
        );
        node.vlan = Some(100);
        assert_eq!(
            addressing(&node),
            "link set lo up\nlink set eth0 up\nlink add link eth0 name eth0.100 type vlan id 100\n\
             link set eth0.100 up\naddr add 172.20.0.1/16 brd + dev eth0.100\nroute add default via 172.20.0.9"
        );
    }
}
