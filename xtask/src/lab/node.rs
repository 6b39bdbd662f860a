//! Doing things on a node.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    daemon,
    error::LabError,
    namespace::{spawn_in_node, within_network},
    network::command_line,
    processes,
    spec::{Daemon, Link, MacAddress, NodeSpec, XdpMode},
    status::DaemonStatus,
    wait::wait_until,
};

/// A node of a running lab.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it was built from.
    pub spec: NodeSpec,
    init: Pid,
    folder: PathBuf,
}

impl Node {
    pub(crate) fn new(spec: NodeSpec, init: Pid, folder: PathBuf) -> Self {
        Self { spec, init, folder }
    }

    /// Its host name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Its first address.
    pub fn address(&self) -> Ipv4Addr {
        self.spec.links.first().map_or(Ipv4Addr::UNSPECIFIED, |link| link.address)
    }

    /// The interface that its first address is on.
    pub fn interface(&self) -> String {
        let carrier = self.spec.links.first().map_or("lo", |link| link.interface.as_str());
        self.spec.vlan.map_or_else(|| carrier.to_owned(), |vlan| format!("{carrier}.{vlan}"))
    }

    /// The MAC address of its first interface.
    pub fn mac(&self) -> Option<MacAddress> {
        self.spec.links.first().map(Link::mac)
    }

    /// Its first process, as seen from the host; `/proc/PID/ns` are its namespaces.
    pub fn init(&self) -> i32 {
        self.init.as_raw()
    }

    /// Runs `work` in a thread inside the node's network namespace (only that namespace).
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        within_network(self.init, work)
            .map_err(LabError::io(format!("entering the network of {}", self.name())))
    }

    /// Starts a command in all namespaces of the node, with the standard streams it was given.
    pub fn spawn(&self, command: Command) -> Result<Child, LabError> {
        let program = command.get_program().to_string_lossy().into_owned();
        spawn_in_node(self.init, command).map_err(|source| LabError::Start {
            program,
            node: self.name().to_owned(),
            source,
        })
    }

    /// Runs a command on the node to its end, whatever its exit status.
    pub fn output(&self, words: &[&str]) -> Result<Output, LabError> {
        let (program, arguments) = words.split_first().unwrap_or((&"true", &[]));
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let line = command_line(&command);
        let child = self.spawn(command)?;
        child.wait_with_output().map_err(LabError::io(format!("waiting for `{line}` on {}", self.name())))
    }

    /// What a command on the node writes to standard output; an exit status other than 0 is an error.
    pub fn run(&self, words: &[&str]) -> Result<String, LabError> {
        let output = self.output(words)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let text = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
        Err(LabError::Command {
            command: words.join(" "),
            node: self.name().to_owned(),
            status: output.status,
            output: String::from_utf8_lossy(text).trim().to_owned(),
        })
    }

    /// A file of the node as seen from the host; `path` is absolute.
    pub fn path(&self, path: &str) -> PathBuf {
        daemon::root(self.init).join(path.trim_start_matches('/'))
    }

    /// Whether `interface` carries `address`. The kernel is asked, which answers for a frozen node too.
    pub fn has_address(&self, interface: &str, address: impl Into<IpAddr>) -> Result<bool, LabError> {
        let address: IpAddr = address.into();
        let text = self.run(&["ip", "-oneline", "address", "show", "dev", interface])?;
        Ok(text
            .split_ascii_whitespace()
            .any(|word| word.split_once('/').is_some_and(|(host, _)| host.parse() == Ok(address))))
    }

    /// How an XDP program is attached to `interface`; `None` if none is. [`XdpMode::Auto`] is never the answer.
    pub fn xdp(&self, interface: &str) -> Result<Option<XdpMode>, LabError> {
        let text = self.run(&["ip", "-oneline", "link", "show", "dev", interface])?;
        let mode = text.split_ascii_whitespace().find_map(|word| match word {
            "xdp" => Some(XdpMode::Native),
            "xdpgeneric" => Some(XdpMode::Generic),
            _ => None,
        });
        Ok(mode)
    }

    /// A counter of `/proc/net/snmp`, such as ("Tcp", "InCsumErrors").
    pub fn kernel_counter(&self, protocol: &str, name: &str) -> Result<u64, LabError> {
        let text = self.run(&["cat", "/proc/net/snmp"])?;
        let prefix = format!("{protocol}:");
        let mut lines = text.lines().filter(|line| line.starts_with(&prefix));
        let (names, values) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
        let at = names.split_ascii_whitespace().position(|word| word == name);
        at.and_then(|at| values.split_ascii_whitespace().nth(at)?.parse().ok()).ok_or_else(|| {
            LabError::Unexpected {
                what: format!("/proc/net/snmp of {}", self.name()),
                detail: format!("no {protocol} {name} in it"),
            }
        })
    }

    /// The node's processes by name, as the host numbers them.
    pub fn processes(&self, name: &str) -> Vec<i32> {
        processes::in_namespace_of(self.init)
            .into_iter()
            .filter(|pid| processes::name(*pid).as_deref() == Some(name))
            .map(Pid::as_raw)
            .collect()
    }

    /// Sends a signal to all processes of a name and returns how many there were.
    pub fn signal(&self, name: &str, signal: Signal) -> usize {
        let processes = self.processes(name);
        for pid in &processes {
            // Fails only for one that has just ended.
            let _ = kill(Pid::from_raw(*pid), signal);
        }
        processes.len()
    }

    /// Stops every process of the node, as `docker pause` does; its kernel goes on.
    pub fn freeze(&self) -> Result<(), LabError> {
        processes::freeze(self.init, self.name())
    }

    /// Undoes [`Node::freeze`].
    pub fn thaw(&self) -> Result<(), LabError> {
        processes::thaw(self.init, self.name())
    }

    /// Whether [`Node::freeze`] has stopped it.
    pub fn is_frozen(&self) -> bool {
        processes::is_stopped(self.init)
    }

    /// Starts the node's daemon, whose configuration is written anew.
    pub fn start_daemon(&self) -> Result<(), LabError> {
        daemon::start(&self.folder, self.init, &self.spec)
    }

    /// The processes of its daemon, as the host numbers them.
    pub fn daemon_processes(&self) -> Vec<i32> {
        daemon::process_name(&self.spec.daemon).map(|name| self.processes(&name)).unwrap_or_default()
    }

    /// Whether its daemon runs.
    pub fn has_daemon(&self) -> bool {
        self.daemon_processes().into_iter().any(|pid| processes::is_running(Pid::from_raw(pid)))
    }

    /// Sends a signal to the daemon and waits until it has ended.
    pub fn stop_daemon(&self, signal: Signal, within: Duration) -> Result<(), LabError> {
        let name = daemon::process_name(&self.spec.daemon)
            .ok_or_else(|| LabError::NoDaemon { node: self.name().to_owned() })?;
        self.end(&name, signal, within)
    }

    /// Starts the node's nginx.
    pub fn start_web(&self) -> Result<(), LabError> {
        daemon::start_web(&self.folder, self.init, &self.spec)
    }

    /// Kills the node's nginx, master and workers.
    pub fn stop_web(&self) -> Result<(), LabError> {
        self.end("nginx", Signal::SIGKILL, Duration::from_secs(5))
    }

    fn end(&self, name: &str, signal: Signal, within: Duration) -> Result<(), LabError> {
        self.signal(name, signal);
        wait_until(&format!("{name} on {} has ended", self.name()), within, || {
            let running =
                self.processes(name).into_iter().any(|pid| processes::is_running(Pid::from_raw(pid)));
            (!running).then_some(())
        })
    }

    /// Gives the node's daemon another configuration, which it has not read then.
    pub fn write_config(&self, config: &str) -> Result<(), LabError> {
        let path = match &self.spec.daemon {
            Daemon::Lb { .. } => daemon::LB_CONFIG,
            Daemon::Keepalived { .. } => daemon::KEEPALIVED_CONFIG,
            Daemon::None => return Err(LabError::NoDaemon { node: self.name().to_owned() }),
        };
        daemon::write_config(self.init, path, config)
    }

    /// Gives the node's `lb` another configuration and has it read.
    pub fn reload(&self, config: &str) -> Result<String, LabError> {
        let Daemon::Lb { binary, .. } = &self.spec.daemon else {
            return Err(LabError::NoDaemon { node: self.name().to_owned() });
        };
        self.write_config(config)?;
        self.run(&[&binary.to_string_lossy(), "reload"])
    }

    /// What the node's `lb` says about itself.
    pub fn status(&self) -> Result<DaemonStatus, LabError> {
        let Daemon::Lb { binary, .. } = &self.spec.daemon else {
            return Err(LabError::NoDaemon { node: self.name().to_owned() });
        };
        let text = self.run(&[&binary.to_string_lossy(), "status", "--json"])?;
        DaemonStatus::parse(&text, self.name())
    }

    /// What its daemons wrote, all of them.
    pub fn log(&self) -> String {
        let bytes = fs::read(daemon::log_path(&self.folder, self.name())).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last `lines` lines of what the daemon wrote.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = self.log();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}
