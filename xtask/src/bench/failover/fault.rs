//! What happens to the owner.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Serialize, Serializer};

use super::{stage::Stage, system::System};
use crate::lab::{Cable, LabError, VIP, pause, wait_until};

/// How long a daemon may take to end.
const END_WITHIN: Duration = Duration::from_secs(10);
/// How long the other node may take to become owner before what is measured begins.
const TAKEOVER_WITHIN: Duration = Duration::from_secs(15);
/// Longer than any takeover: the thaw is that of a node whose place has been taken.
const LONG_FREEZE: Duration = Duration::from_secs(6);

/// As systemd's `RestartSec` is by default.
const RESTART_AFTER: Duration = Duration::from_millis(100);

/// How long a node is kept busy.
const STRAIN: Duration = Duration::from_secs(5);
/// Busy loops at a time.
const LOOPS: usize = 2;
/// Packets a second.
const FLOOD_RATE: u32 = 100_000;

/// Something that happens to the owner, node-a.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Fault {
    /// The daemon is told to end (SIGTERM)
    Stop,
    /// All processes of the daemon are killed (SIGKILL)
    Kill,
    /// All processes of the daemon are killed, and 0.1 s later it is started again, as systemd would
    Restart,
    /// A daemon that was killed is started again after the other node has taken over
    LateRestart,
    /// The one process of the daemon that speaks VRRP is killed
    KillOne,
    /// lb's guardian is killed
    KillGuardian,
    /// All userspace of the node is frozen, as by `docker pause`
    Freeze,
    /// Userspace goes on after 6 s
    Thaw,
    /// Userspace is frozen for 500 ms
    Stall500ms,
    /// Userspace is frozen for 50 ms
    Stall50ms,
    /// The daemon alone is frozen
    FreezeDaemon,
    /// The interface loses its carrier
    LinkDown,
    /// Nothing gets through any more, carrier or not
    Cut,
    /// What was cut is whole again, after both nodes have claimed the VIP
    Repair,
    /// nginx is killed
    KillNginx,
    /// nginx is frozen
    FreezeNginx,
    /// Somebody else deletes the VIP from the interface
    DeleteVip,
    /// The daemon reads the same configuration again
    Reload,
    /// Two busy loops on the node for 5 s
    Busy,
    /// 100,000 packets a second arrive at the interface for 5 s
    Flood,
    /// A third host sends both nodes adverts of priority 255 for 5 s
    Forge,
    /// The owner hands over while TCP downloads are under way
    Download,
}

/// What tells how bad a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Yardstick {
    /// Datagrams to the VIP.
    Vip,
    /// Requests to the service.
    Web,
    /// Downloads from the service.
    Download,
}

impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

impl Fault {
    /// The head of its row.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Stop => "clean stop",
            Self::Kill => "`kill -9` of the whole daemon",
            Self::Restart => "killed and started again after 0.1 s",
            Self::LateRestart => "started again after the takeover",
            Self::KillOne => "`kill -9` of the process that speaks VRRP",
            Self::KillGuardian => "`kill -9` of the guardian",
            Self::Freeze => "freeze of the node's userspace",
            Self::Thaw => "thaw after a 6 s freeze",
            Self::Stall500ms => "userspace stalls 500 ms",
            Self::Stall50ms => "userspace stalls 50 ms",
            Self::FreezeDaemon => "daemon alone frozen",
            Self::LinkDown => "link down",
            Self::Cut => "cut off, carrier up",
            Self::Repair => "the cut is repaired",
            Self::KillNginx => "nginx killed",
            Self::FreezeNginx => "nginx frozen",
            Self::DeleteVip => "VIP deleted by somebody else",
            Self::Reload => "reload, same config",
            Self::Busy => "two busy loops on the node, 5 s",
            Self::Flood => "100,000 packets a second, 5 s",
            Self::Forge => "a third host forges adverts of priority 255, 5 s",
            Self::Download => "a TCP download through the move",
        }
    }

    /// As on the command line.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether there is such a thing with this daemon.
    pub(super) fn befalls(self, system: System) -> bool {
        self != Self::KillGuardian || system.is_lb()
    }

    pub(super) fn yardstick(self) -> Yardstick {
        match self {
            Self::KillNginx | Self::FreezeNginx => Yardstick::Web,
            Self::Download => Yardstick::Download,
            _ => Yardstick::Vip,
        }
    }

    /// The most milliseconds that clients of the tutorial's pair under `lb` may go unanswered.
    pub(super) fn goal(self, system: System) -> Option<f64> {
        if system != System::Lb1s {
            return None;
        }
        match self {
            Self::Kill | Self::KillOne | Self::KillNginx => Some(100.0),
            Self::Freeze | Self::FreezeDaemon | Self::LinkDown | Self::Cut => Some(250.0),
            Self::Repair | Self::DeleteVip => Some(50.0),
            // Two checks, each of 50 ms or 20 ms, and their time-outs of 250 ms.
            Self::FreezeNginx => Some(600.0),
            _ => None,
        }
    }

    /// How long to look at least, and at most while clients go unanswered.
    pub(super) fn watch(self, system: System) -> [Duration; 2] {
        // A backup that misses the owner's adverts claims after three of them and less than another one.
        let least = Duration::from_secs(3).max(system.interval() * 4);
        match self {
            // A client that believes in the wrong node asks for it again after up to 51 s.
            Self::Repair => [Duration::from_secs(10), Duration::from_mins(1)],
            Self::Thaw => [Duration::from_secs(6), Duration::from_secs(20)],
            // The backup claims when it has heard nobody better for that long, and then it is to be seen what follows.
            Self::Download => [least + system.interval() * 2, Duration::from_secs(10).max(least)],
            _ => [least, Duration::from_secs(10).max(least)],
        }
    }

    /// What has to happen before what is measured.
    pub(super) fn prepare(self, stage: &Stage) -> Result<(), LabError> {
        match self {
            Self::LateRestart => {
                kill_daemon(stage)?;
                stage.wait_for_takeover(TAKEOVER_WITHIN)
            }
            Self::Thaw => {
                stage.owner.freeze()?;
                pause(LONG_FREEZE)
            }
            Self::Repair => {
                stage.lab.set_cable(&stage.owner, Cable::Cut)?;
                stage.wait_for_takeover(TAKEOVER_WITHIN)?;
                // Let the claim be an old one, for everybody.
                pause(Duration::from_secs(2))
            }
            _ => Ok(()),
        }
    }

    /// Lets it happen.
    pub(super) fn strike(self, stage: &Stage) -> Result<(), LabError> {
        let owner = &stage.owner;
        match self {
            Self::Stop => owner.stop_daemon(Signal::SIGTERM, END_WITHIN),
            Self::Kill => kill_daemon(stage),
            Self::Restart => {
                kill_daemon(stage)?;
                pause(RESTART_AFTER)?;
                owner.start_daemon()
            }
            Self::LateRestart => owner.start_daemon(),
            Self::KillOne => kill_process("one speaks VRRP", || stage.speaker()),
            Self::KillGuardian => kill_process("there is a guardian", || stage.guardian()),
            Self::Freeze => owner.freeze(),
            Self::Thaw => owner.thaw(),
            Self::Stall500ms => stall(stage, Duration::from_millis(500)),
            Self::Stall50ms => stall(stage, Duration::from_millis(50)),
            Self::FreezeDaemon => stage.signal_daemon(Signal::SIGSTOP),
            Self::LinkDown => stage.lab.set_cable(owner, Cable::Pulled),
            Self::Cut => stage.lab.set_cable(owner, Cable::Cut),
            Self::Repair => stage.lab.set_cable(owner, Cable::Whole),
            Self::KillNginx => owner.stop_web(),
            Self::FreezeNginx => {
                owner.signal("nginx", Signal::SIGSTOP);
                Ok(())
            }
            Self::DeleteVip => {
                owner.run(&["ip", "address", "delete", &format!("{VIP}/24"), "dev", "eth0"]).map(drop)
            }
            Self::Reload => stage.reload(),
            Self::Busy => busy(stage),
            Self::Flood => stage.flood(FLOOD_RATE, STRAIN),
            Self::Forge => stage.forge(STRAIN),
            Self::Download => stage.lower_the_owner(),
        }
    }

    /// Makes everything as it was.
    pub(super) fn undo(self, stage: &Stage) -> Result<(), LabError> {
        let owner = &stage.owner;
        match self {
            Self::Stop | Self::Kill => owner.start_daemon(),
            // keepalived's other process starts it again.
            Self::KillOne if stage.is_alone() => owner.start_daemon(),
            Self::Freeze => owner.thaw(),
            Self::FreezeDaemon => stage.signal_daemon(Signal::SIGCONT),
            Self::LinkDown | Self::Cut => stage.lab.set_cable(owner, Cable::Whole),
            Self::KillNginx => owner.start_web(),
            Self::FreezeNginx => {
                owner.signal("nginx", Signal::SIGCONT);
                Ok(())
            }
            Self::Download => stage.reload(),
            Self::Restart
            | Self::LateRestart
            | Self::KillOne
            | Self::KillGuardian
            | Self::Thaw
            | Self::Stall500ms
            | Self::Stall50ms
            | Self::Repair
            | Self::DeleteVip
            | Self::Reload
            | Self::Busy
            | Self::Flood
            | Self::Forge => Ok(()),
        }
    }
}

fn busy(stage: &Stage) -> Result<(), LabError> {
    let mut loops = Vec::new();
    for _ in 0..LOOPS {
        let mut shell = Command::new("sh");
        shell.args(["-c", "while :; do :; done"]);
        loops.push(stage.owner.spawn(shell)?);
    }
    let outcome = pause(STRAIN);
    for mut child in loops {
        child.kill().and_then(|()| child.wait()).map_err(LabError::io("ending a busy loop"))?;
    }
    outcome
}

fn kill_process(what: &str, find: impl FnMut() -> Option<i32>) -> Result<(), LabError> {
    let process = wait_until(what, END_WITHIN, find)?;
    kill(Pid::from_raw(process), Signal::SIGKILL).map_err(LabError::sys(format!("killing process {process}")))
}

/// Kills all processes of the owner's daemon in one moment: none may notice the end of another one and act.
fn kill_daemon(stage: &Stage) -> Result<(), LabError> {
    stage.signal_daemon(Signal::SIGSTOP)?;
    stage.signal_daemon(Signal::SIGKILL)?;
    stage.owner.stop_daemon(Signal::SIGKILL, END_WITHIN)
}

fn stall(stage: &Stage, duration: Duration) -> Result<(), LabError> {
    let start = Instant::now();
    stage.owner.freeze()?;
    std::thread::sleep(duration.saturating_sub(start.elapsed()));
    stage.owner.thaw()
}

/// The process that started another one.
pub(super) fn parent(pid: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}
