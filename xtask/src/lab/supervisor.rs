//! The one process that holds a lab. When it dies, however it dies, the kernel ends the nodes and removes their namespaces.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, setns, unshare},
    sys::{
        prctl::set_pdeathsig,
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use super::{
    daemon,
    error::LabError,
    init::{self, Orders},
    namespace::unblock_signals,
    network,
    spec::LabSpec,
    state::{Claim, LabState},
};

/// What the supervisor reports on its standard output, one JSON text a line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// It begins to do this.
    Doing(String),
    /// Everything is started. Nothing follows.
    Ready(LabState),
    /// It gave up and removed everything. Nothing follows.
    Failed(String),
}

/// What whoever started the supervisor may write to its standard input after the specification, to let the lab outlive it.
/// The end of the input without it ends the lab.
pub(crate) const DETACH: &str = "detach";

/// How long nodes that were asked to end may take before they are killed.
const GRACE: Duration = Duration::from_secs(2);

/// Runs as the supervisor of the lab whose specification is the first line of standard input.
pub(crate) fn run() -> Result<(), LabError> {
    let mut orders = String::new();
    io::stdin().read_line(&mut orders).map_err(LabError::io("reading the specification"))?;
    let spec: LabSpec = serde_json::from_str(&orders).map_err(|error| LabError::Unexpected {
        what: "the specification".to_owned(),
        detail: error.to_string(),
    })?;
    let outcome = supervise(spec);
    if let Err(error) = &outcome {
        report(&Report::Failed(error.to_string()));
    }
    outcome
}

fn supervise(spec: LabSpec) -> Result<(), LabError> {
    let claim = Claim::new(&spec.name)?;
    let signals = SigSet::from_iter([Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    signals.thread_block().map_err(LabError::sys("blocking signals"))?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(LabError::sys("opening a signal descriptor"))?;

    // Dropped at the end of this function, however it is reached: that ends the nodes.
    let mut nodes = Nodes(BTreeMap::new());
    let (state, _programs) = build(spec, &claim, &mut nodes)?;
    claim.publish(&state)?;
    report(&Report::Ready(state));
    stay(&signals, &nodes)
}

/// Also returns what must be held for as long as the lab lives.
fn build(spec: LabSpec, claim: &Claim, nodes: &mut Nodes) -> Result<(LabState, Vec<OwnedFd>), LabError> {
    report(&Report::Doing(format!("making {} nodes", spec.nodes.len())));
    let switch = nodes.start(&Orders { name: "switch".to_owned(), forwarding: false, ipv6: false })?;
    let mut inits = BTreeMap::new();
    for node in &spec.nodes {
        let init =
            nodes.start(&Orders { name: node.name.clone(), forwarding: node.forwarding, ipv6: node.ipv6 })?;
        inits.insert(node.name.clone(), init.as_raw());
    }
    report(&Report::Doing("joining them".to_owned()));
    let init_of = |name: &str| inits.get(name).copied().map(Pid::from_raw);
    let programs = network::build(&spec, switch, init_of)?;
    report(&Report::Doing("starting what runs on them".to_owned()));
    for node in &spec.nodes {
        let Some(init) = init_of(&node.name) else { continue };
        daemon::start_web(claim.folder(), init, node)?;
        daemon::start_echo(claim.folder(), init, node)?;
    }
    for node in &spec.nodes {
        let Some(init) = init_of(&node.name) else { continue };
        daemon::start(claim.folder(), init, node)?;
    }
    let supervisor = std::process::id().cast_signed();
    Ok((LabState { spec, supervisor, inits, switch: switch.as_raw() }, programs))
}

/// Returns when the lab is to end.
fn stay(signals: &SignalFd, nodes: &Nodes) -> Result<(), LabError> {
    let stdin = io::stdin();
    let mut attached = true;
    loop {
        let (mut signalled, mut spoken) = (PollFlags::empty(), PollFlags::empty());
        {
            let mut descriptors = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            if attached {
                descriptors.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut descriptors, PollTimeout::NONE) {
                Ok(_) | Err(nix::Error::EINTR) => (),
                Err(errno) => return Err(LabError::sys("waiting for events")(errno)),
            }
            for (descriptor, events) in descriptors.iter().zip([&mut signalled, &mut spoken]) {
                *events = descriptor.revents().unwrap_or(PollFlags::empty());
            }
        }
        if !signalled.is_empty() {
            while let Some(signal) = signals.read_signal().map_err(LabError::sys("reading a signal"))? {
                if signal.ssi_signo != Signal::SIGCHLD as u32 {
                    return Ok(());
                }
            }
            for ended in reap() {
                if let Some(name) = nodes.name_of(ended) {
                    return Err(LabError::Supervisor(format!("{name} ended by itself")));
                }
            }
        }
        if !spoken.is_empty() {
            let mut line = String::new();
            match stdin.read_line(&mut line) {
                Ok(1..) if line.trim() == DETACH => attached = false,
                _ => return Ok(()),
            }
        }
    }
}

/// The first processes of the nodes, by name.
struct Nodes(BTreeMap<String, Child>);

impl Nodes {
    /// Makes a node. Must be called while this process has one thread: the node dies with the thread that made it.
    fn start(&mut self, orders: &Orders) -> Result<Pid, LabError> {
        let name = orders.name.as_str();
        let failed = |source| LabError::Start {
            program: "the first process".to_owned(),
            node: name.to_owned(),
            source,
        };
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command.args(["lab", "init"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        // SAFETY: between fork and exec only prctl, unshare and sigprocmask are called, all async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                set_pdeathsig(Signal::SIGKILL)?;
                unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)?;
                unblock_signals()
            })
        };
        let mut child = in_new_pid_namespace(|| command.spawn()).map_err(failed)?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let pid = Pid::from_raw(child.id().cast_signed());
        self.0.insert(name.to_owned(), child);

        let text = serde_json::to_string(orders).map_err(|error| failed(io::Error::other(error)))?;
        if let Some(mut stdin) = stdin {
            stdin.write_all(text.as_bytes()).map_err(failed)?;
        }
        let mut answer = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout).read_line(&mut answer).map_err(failed)?;
        }
        if answer.trim() != init::READY {
            return Err(LabError::Supervisor(format!("{name} could not prepare its namespaces: {answer}")));
        }
        Ok(pid)
    }

    fn name_of(&self, pid: Pid) -> Option<&str> {
        let (name, _) = self.0.iter().find(|(_, child)| child.id().cast_signed() == pid.as_raw())?;
        Some(name)
    }

    fn signal(&self, signal: Signal) {
        for child in self.0.values() {
            // Fails only for a node that has ended.
            let _ = kill(Pid::from_raw(child.id().cast_signed()), signal);
        }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.signal(Signal::SIGTERM);
        let start = Instant::now();
        let mut killed = false;
        // Reaping everything matters: a pid namespace is gone only when the last process born into it has been waited for.
        while !self.0.is_empty() {
            for pid in reap() {
                self.0.retain(|_, child| child.id().cast_signed() != pid.as_raw());
            }
            if !killed && start.elapsed() > GRACE {
                self.signal(Signal::SIGKILL);
                killed = true;
            }
            if start.elapsed() > GRACE * 3 {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Runs `spawn` so that its child is the first process of a new pid namespace.
fn in_new_pid_namespace(spawn: impl FnOnce() -> io::Result<Child>) -> io::Result<Child> {
    let own = std::fs::File::open("/proc/self/ns/pid")?;
    unshare(CloneFlags::CLONE_NEWPID)?;
    let child = spawn();
    setns(own.as_fd(), CloneFlags::CLONE_NEWPID)?;
    child
}

fn reap() -> Vec<Pid> {
    let mut ended = Vec::new();
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        match status {
            WaitStatus::StillAlive => break,
            status => ended.extend(status.pid()),
        }
    }
    ended
}

/// Whoever started this process may be gone; then its end of the input says so.
fn report(report: &Report) {
    if let Ok(line) = serde_json::to_string(report) {
        let mut out = io::stdout();
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}
