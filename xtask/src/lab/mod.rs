//! Labs: machines made of namespaces on this host, with real nginx and a daemon that keeps a VIP.
//!
//! A lab is one supervisor process and, for every node, a process that is number 1 of its own pid namespace. Nothing of it
//! is visible on the host but these processes and the folder `/run/lb-lab/NAME`: network namespaces are unnamed, bridges are
//! in a namespace of their own, and every node has its own `/run` and bpffs. When the supervisor dies, the kernel ends
//! everything.

mod args;
mod cable;
mod daemon;
mod error;
mod init;
mod namespace;
mod network;
mod node;
pub mod probe;
mod processes;
mod realtime;
mod spec;
mod state;
mod status;
mod supervisor;
mod wait;
mod web;
mod xdp_pass;

use std::{
    io::{BufRead, BufReader, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use nix::unistd::{Pid, geteuid, setsid};

use self::supervisor::{DETACH, Report};
pub(crate) use self::{args::become_root, daemon::GUARDIAN, processes::processor_time};
pub use self::{
    args::{Options, execute},
    cable::{Cable, End},
    error::LabError,
    node::Node,
    spec::{
        CLIENT, Daemon, LabSpec, Link, MacAddress, NODE_A, NODE_B, NodeSpec, VIP, Web, XdpMode,
        shipped_config, v6, with_xdp,
    },
    state::{LabState, sweep},
    status::{BackendStatus, DaemonStatus},
    wait::{interrupt, interrupted, pause, wait_until},
    web::{BIG_PAGE_BYTES, BIG_PAGE_PATH, NODE_HEADER, UPLOAD_PATH, big_page},
};

/// How long a supervisor that was told to end may take until it is killed.
const END_WITHIN: Duration = Duration::from_secs(10);
/// How long nginx may take to listen.
const WEB_WITHIN: Duration = Duration::from_secs(10);
/// How long a pair may take to come up: the verifier, VRRP's first election and the health checks' first rise, several times
/// over. Where two labs start on a machine that others use, the verifier alone has taken 12 s.
const PAIR_WITHIN: Duration = Duration::from_mins(1);

/// A running lab.
///
/// One that [`Lab::start`] made ends when this value is dropped or its process dies, unless it was detached.
#[derive(Debug)]
pub struct Lab {
    state: LabState,
    folder: PathBuf,
    attached: Option<(Child, ChildStdin)>,
}

impl Lab {
    /// Builds a lab and starts what runs on its nodes; returns when every nginx listens.
    ///
    /// `xtask` is this project's xtask executable, which the lab's own processes are made of. `progress` is called with what
    /// is being done.
    pub fn start(spec: &LabSpec, xtask: &Path, mut progress: impl FnMut(&str)) -> Result<Self, LabError> {
        if !geteuid().is_root() {
            return Err(LabError::NotRoot);
        }
        spec::check_name(&spec.name)?;
        let mut command = Command::new(xtask);
        command.args(["lab", "supervise"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        // A lab that stays must not keep the standard error of `lab up` open: whoever reads it to its end would wait.
        // What is wrong is said by the pipe.
        command.stderr(Stdio::null());
        {
            use std::os::unix::process::CommandExt;
            // Its own session: Ctrl-C in the terminal is for this process, which then ends the lab in order.
            // SAFETY: between fork and exec only setsid and sigprocmask are called, both async-signal-safe.
            unsafe {
                command.pre_exec(|| {
                    setsid()?;
                    namespace::unblock_signals()
                })
            };
        }
        let mut child = command.spawn().map_err(|source| LabError::Start {
            program: xtask.display().to_string(),
            node: "this host".to_owned(),
            source,
        })?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (Some(mut stdin), Some(stdout)) = (stdin, stdout) else {
            return Err(LabError::Supervisor("it has no pipes".to_owned()));
        };
        let state = instruct(spec, &mut stdin, BufReader::new(stdout), &mut progress);
        let state = match state {
            Ok(state) => state,
            Err(error) => {
                drop(stdin);
                end(&mut child);
                return Err(error);
            }
        };
        let folder = state::folder(&spec.name);
        let lab = Self { state, folder, attached: Some((child, stdin)) };
        for node in lab.nodes() {
            lab.wait_for_web(&node)?;
        }
        Ok(lab)
    }

    /// The tutorial's pair under `lb`, started and ready: both daemons answer, one owns the VIP, every backend is up.
    ///
    /// A failure to become ready carries the end of both daemons' logs.
    pub fn start_tutorial(
        name: &str,
        lb: &Path,
        xdp: XdpMode,
        xtask: &Path,
        mut progress: impl FnMut(&str),
    ) -> Result<Self, LabError> {
        let lab = Self::start(&LabSpec::tutorial(name, lb, xdp)?, xtask, &mut progress)?;
        progress("waiting until one of them owns the VIP");
        lab.wait_until_ready()?;
        Ok(lab)
    }

    /// A lab that another process started.
    pub fn open(name: &str) -> Result<Self, LabError> {
        sweep()?;
        Ok(Self { state: state::load(name)?, folder: state::folder(name), attached: None })
    }

    /// Ends the lab of that name, whoever started it, and waits until nothing is left. Returns whether it was up.
    pub fn down(name: &str) -> Result<bool, LabError> {
        state::down(name)
    }

    /// Lets the lab outlive this process.
    pub fn detach(mut self) -> Result<(), LabError> {
        let Some((_, stdin)) = &mut self.attached else { return Ok(()) };
        writeln!(stdin, "{DETACH}").map_err(LabError::io("detaching the lab"))?;
        self.attached = None;
        Ok(())
    }

    /// What the lab was built from, and its processes.
    pub fn state(&self) -> &LabState {
        &self.state
    }

    /// Its nodes.
    pub fn nodes(&self) -> Vec<Node> {
        let node = |spec: &NodeSpec| {
            let init = *self.state.inits.get(&spec.name)?;
            Some(Node::new(spec.clone(), Pid::from_raw(init), self.folder.clone()))
        };
        self.state.spec.nodes.iter().filter_map(node).collect()
    }

    /// One of its nodes.
    pub fn node(&self, name: &str) -> Result<Node, LabError> {
        self.nodes().into_iter().find(|node| node.name() == name).ok_or_else(|| LabError::NoSuchNode {
            lab: self.state.spec.name.clone(),
            node: name.to_owned(),
            known: self.state.spec.nodes.iter().map(|n| n.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    /// Processor time that everything on its nodes has taken so far, the softirq daemons' included; what has ended is not in it.
    pub fn processor_time(&self) -> Duration {
        let inits = self.state.inits.values().map(|init| Pid::from_raw(*init));
        let mut processes: Vec<Pid> = inits.flat_map(processes::in_namespace_of).collect();
        processes.extend(processes::softirq_daemons());
        processor_time(&processes)
    }

    /// The nodes whose first interface carries `vip`. A frozen node keeps the address, so that this may be two; who *answers* for it
    /// is what [`probe::arp`] finds out.
    pub fn holders(&self, vip: impl Into<IpAddr>) -> Result<Vec<String>, LabError> {
        let vip = vip.into();
        let mut holders = Vec::new();
        for node in self.nodes() {
            if node.has_address(&node.interface(), vip)? {
                holders.push(node.name().to_owned());
            }
        }
        Ok(holders)
    }

    /// Waits until every `lb` answers, exactly one owns its virtual routers, the others are backups and all see every
    /// backend up. Returns the owner.
    pub fn wait_until_ready(&self) -> Result<Node, LabError> {
        let daemons: Vec<Node> =
            self.nodes().into_iter().filter(|n| matches!(n.spec.daemon, Daemon::Lb { .. })).collect();
        let mut last = String::new();
        let ready = wait_until("one daemon owns the VIP and both see every backend up", PAIR_WITHIN, || {
            let (mut owners, mut backups) = (Vec::new(), 0);
            for node in &daemons {
                if !node.has_daemon() {
                    return Some(Err(LabError::DaemonEnded {
                        node: node.name().to_owned(),
                        log: node.log_tail(20),
                    }));
                }
                match node.status() {
                    Ok(status) if status.is_owner() && status.all_backends_up() => owners.push(node),
                    Ok(status) if status.all_are("backup") && status.all_backends_up() => backups += 1,
                    Ok(status) => last = format!("{} says {}", node.name(), status.text()),
                    Err(error) => last = error.to_string(),
                }
            }
            match owners[..] {
                [owner] if backups + 1 == daemons.len() => Some(Ok(owner.clone())),
                _ => None,
            }
        });
        ready.map_err(|error| match error {
            LabError::Timeout { what, after } => LabError::Timeout {
                what: format!("{what}\nlast answer: {last}\n{}", self.log_tails(20)),
                after,
            },
            other => other,
        })?
    }

    /// The last `lines` lines of every daemon's log, each under a title.
    pub fn log_tails(&self, lines: usize) -> String {
        self.nodes()
            .iter()
            .filter(|node| !matches!(node.spec.daemon, Daemon::None))
            .map(|node| format!("── end of the log of {} ──\n{}", node.name(), node.log_tail(lines)))
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn wait_for_web(&self, node: &Node) -> Result<(), LabError> {
        let Some(web) = &node.spec.web else { return Ok(()) };
        let address = SocketAddr::from((node.address(), web.port));
        wait_until(&format!("nginx on {} listens", node.name()), WEB_WITHIN, || {
            let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(500));
            node.within(connect).ok()?.ok().map(drop)
        })
        .map_err(|error| match error {
            LabError::Timeout { what, after } => {
                let log = self.folder.join(format!("{}.nginx.log", node.name()));
                let text = std::fs::read_to_string(log).unwrap_or_default();
                LabError::Timeout { what: format!("{what}\n{text}"), after }
            }
            other => other,
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some((mut child, stdin)) = self.attached.take() {
            drop(stdin);
            end(&mut child);
        }
    }
}

/// Gives the supervisor its orders and follows it until everything is started.
fn instruct(
    spec: &LabSpec,
    stdin: &mut ChildStdin,
    reports: impl BufRead,
    progress: &mut impl FnMut(&str),
) -> Result<LabState, LabError> {
    let orders = serde_json::to_string(spec).map_err(|error| LabError::Supervisor(error.to_string()))?;
    writeln!(stdin, "{orders}").map_err(LabError::io("instructing the supervisor"))?;
    for line in reports.lines() {
        let line = line.map_err(LabError::io("listening to the supervisor"))?;
        match serde_json::from_str(&line) {
            Ok(Report::Doing(what)) => progress(&what),
            Ok(Report::Ready(state)) => return Ok(state),
            Ok(Report::Failed(why)) => return Err(LabError::Supervisor(why)),
            Err(error) => return Err(LabError::Supervisor(format!("{error} in {line:?}"))),
        }
    }
    Err(LabError::Supervisor("its supervisor died".to_owned()))
}

/// Waits for a supervisor whose input was closed, and kills it when that takes too long.
fn end(child: &mut Child) {
    let start = std::time::Instant::now();
    // Not `wait_until`: this must also be done after an interruption.
    while matches!(child.try_wait(), Ok(None)) && start.elapsed() < END_WITHIN {
        std::thread::sleep(Duration::from_millis(10));
    }
    // Both fail only if it has ended. The folder it may leave is swept by the next command.
    let _ = child.kill();
    let _ = child.wait();
}
