//! The containers of `deploy/tutorial`, and one more that is a client beside them. Everything is removed with the value.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use nix::unistd::Pid;

use super::{engine::compose_words, image::NODE_IMAGE};
use crate::{
    lab::{CLIENT, DaemonStatus, LabError, MacAddress, Node, NodeSpec, pause, wait_until},
    workspace,
};

/// The container with priority 200.
pub const MASTER: &str = "lbtutorial-master";
/// The one with priority 100.
pub const SLAVE: &str = "lbtutorial-slave";
const CLIENT_CONTAINER: &str = "lbtutorial-client";
const PROJECT: &str = "lbtutorial";
/// Where haproxy is published on this machine.
pub(super) const PORT: u16 = 8000;
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(500);

/// The running containers.
#[derive(Debug)]
pub struct Containers {
    client: Node,
}

impl Containers {
    /// `docker-compose up`, and a client on the same network. What an earlier run left is removed first.
    ///
    /// # Errors
    /// No engine answers, the images are not there, or an address or port is taken.
    pub fn up() -> Result<Self, LabError> {
        Self::up_with(None)
    }

    /// As [`Containers::up`], with what another compose file changes.
    ///
    /// # Errors
    /// As there.
    pub fn up_with(changes: Option<&Path>) -> Result<Self, LabError> {
        remove();
        // Made before anything can fail: whatever is up by then goes with it.
        let mut containers = Self { client: host() };
        let changes = changes.map(Path::to_string_lossy);
        let file: Vec<&str> = changes.iter().flat_map(|file| ["--file", file]).collect();
        compose(&[&file[..], &["up", "--detach"]].concat())?;
        let address = CLIENT.to_string();
        docker(&[
            "run",
            "--detach",
            "--name",
            CLIENT_CONTAINER,
            "--network",
            PROJECT,
            "--ip",
            &address,
            "--no-healthcheck",
            "--entrypoint",
            "sleep",
            NODE_IMAGE,
            "infinity",
        ])?;
        containers.client = containers.node(CLIENT_CONTAINER)?;
        Ok(containers)
    }

    /// `docker-compose down`, its volumes included.
    pub fn down(self) -> Result<(), LabError> {
        docker(&["rm", "--force", CLIENT_CONTAINER])?;
        compose(&["down", "--volumes"]).map(drop)
    }

    /// The client, whose network can be entered.
    pub fn client(&self) -> &Node {
        &self.client
    }

    /// A container as a node: its network can be entered while it runs.
    pub fn node(&self, name: &str) -> Result<Node, LabError> {
        let facts = inspect(name, "{{.State.Pid}} {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")?;
        let mut words = facts.split(' ');
        let pid = words.next().and_then(|word| word.parse().ok()).filter(|pid| *pid > 0);
        let address = words.next().and_then(|word| word.parse().ok());
        let (Some(pid), Some(address)) = (pid, address) else {
            return Err(unexpected(name, &facts));
        };
        Ok(Node::new(NodeSpec::on_lan(name, address), Pid::from_raw(pid), PathBuf::new()))
    }

    /// The MAC address of a running container.
    pub fn mac(&self, name: &str) -> Result<MacAddress, LabError> {
        let text = inspect(name, "{{range .NetworkSettings.Networks}}{{.MacAddress}}{{end}}")?;
        let bytes: Option<Vec<u8>> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
        bytes.and_then(|bytes| bytes.try_into().ok()).map(MacAddress).ok_or_else(|| unexpected(name, &text))
    }

    /// Waits until `condition` holds, which is asked seldom enough not to take the processors from those it is about:
    /// starting a program in a container is work.
    pub fn wait(&self, what: &str, within: Duration, condition: impl Fn() -> bool) -> Result<(), LabError> {
        wait_until(what, within, || {
            if condition() {
                return Some(());
            }
            // Interrupted or not, the loop around notices.
            let _ = pause(BETWEEN_QUESTIONS);
            None
        })
    }

    /// What `lb` in a container says about itself.
    pub fn status(&self, name: &str) -> Result<DaemonStatus, LabError> {
        DaemonStatus::parse(&docker(&["exec", name, "lb", "status", "--json"])?, name)
    }

    /// Waits until `owner` has the VIP and both nginx pass their checks, as both daemons see them.
    pub fn wait_until_both_serve(&self, owner: &str, within: Duration) -> Result<(), LabError> {
        let other = if owner == MASTER { SLAVE } else { MASTER };
        self.wait(&format!("{owner} owns the VIP and both nginx serve"), within, || {
            self.status(owner).is_ok_and(|s| s.is_owner() && s.all_backends_up())
                && self.status(other).is_ok_and(|s| s.all_are("backup") && s.all_backends_up())
        })
    }

    /// `paused`, `running`, `exited`, and so on.
    pub fn state(&self, name: &str) -> Result<String, LabError> {
        inspect(name, "{{.State.Status}}")
    }

    /// `healthy`, `unhealthy` or `starting`.
    pub fn health(&self, name: &str) -> Result<String, LabError> {
        inspect(name, "{{.State.Health.Status}}")
    }

    /// The exit status of a container that has ended.
    pub fn exit_status(&self, name: &str) -> Result<i32, LabError> {
        let text = inspect(name, "{{.State.ExitCode}}")?;
        text.parse().map_err(|_| unexpected(name, &text))
    }

    /// The processes of a container by name, as the host numbers them.
    pub fn processes(&self, name: &str) -> Result<BTreeMap<String, Vec<i32>>, LabError> {
        let text = docker(&["top", name, "-eo", "pid,comm"])?;
        let mut processes: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for line in text.lines().skip(1) {
            let mut words = line.split_whitespace();
            if let (Some(Ok(pid)), Some(name)) = (words.next().map(str::parse), words.next()) {
                processes.entry(name.to_owned()).or_default().push(pid);
            }
        }
        Ok(processes)
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in [MASTER, SLAVE] {
                eprintln!("── the end of what {name} wrote ──\n{}", log_tail(name));
            }
        }
        remove();
    }
}

/// This machine, as somebody who opens `localhost:8000` sees it.
pub(super) fn host() -> Node {
    Node::new(NodeSpec::on_lan("host", Ipv4Addr::LOCALHOST), Pid::this(), PathBuf::new())
}

/// The last lines that a container wrote.
pub fn log_tail(name: &str) -> String {
    let output = Command::new("docker").args(["logs", "--tail", "60", name]).stdin(Stdio::null()).output();
    output.map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).unwrap_or_default()
}

/// Runs a command of Docker's client; what it printed.
pub fn docker(arguments: &[&str]) -> Result<String, LabError> {
    let mut words = vec!["docker"];
    words.extend(arguments);
    succeed(&words)
}

fn compose(arguments: &[&str]) -> Result<String, LabError> {
    let file = workspace::root().join("deploy/tutorial/docker-compose.yml");
    let file = file.to_string_lossy();
    let mut words = compose_words().unwrap_or_else(|| vec!["docker-compose"]);
    words.extend(["--project-name", PROJECT, "--file", &file]);
    words.extend(arguments);
    succeed(&words)
}

/// What is not there cannot be removed, which is no error.
fn remove() {
    let _ = docker(&["rm", "--force", CLIENT_CONTAINER]);
    let _ = compose(&["down", "--volumes", "--timeout", "3"]);
}

fn inspect(name: &str, format: &str) -> Result<String, LabError> {
    docker(&["inspect", "--format", format, name])
}

fn succeed(words: &[&str]) -> Result<String, LabError> {
    let (program, arguments) = words.split_first().unwrap_or((&"true", &[]));
    let start =
        |source| LabError::Start { program: (*program).to_owned(), node: "this machine".to_owned(), source };
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().map_err(start)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(LabError::Command {
        command: words.join(" "),
        node: "this machine".to_owned(),
        status: output.status,
        output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

fn unexpected(name: &str, text: &str) -> LabError {
    LabError::Unexpected { what: format!("`docker inspect {name}`"), detail: text.to_owned() }
}
