//! What happens to the owner.

use std::{
    fs,
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
    /// One process of the daemon is killed: of keepalived's the one that speaks VRRP
    KillOne,
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
}

/// What tells how bad a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Yardstick {
    /// Datagrams to the VIP.
    Vip,
    /// Requests to the service.
    Web,
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
            Self::KillOne => "`kill -9` of one of its processes",
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
        }
    }

    /// As on the command line.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether there is such a thing with this daemon.
    pub(super) fn befalls(self, system: System) -> bool {
        !(self == Self::KillOne && system.is_lb())
    }

    pub(super) fn yardstick(self) -> Yardstick {
        if matches!(self, Self::KillNginx | Self::FreezeNginx) { Yardstick::Web } else { Yardstick::Vip }
    }

    /// How long to look at least, and at most while clients go unanswered.
    pub(super) fn watch(self, system: System) -> [Duration; 2] {
        let least = Duration::from_secs(3).max(system.interval() * 6);
        match self {
            // A client that believes in the wrong node asks for it again after up to 51 s.
            Self::Repair => [Duration::from_secs(10), Duration::from_mins(1)],
            Self::Thaw => [Duration::from_secs(6), Duration::from_secs(20)],
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
            Self::KillOne => {
                let child = wait_until("the daemon has a child", END_WITHIN, || stage.child_of_daemon())?;
                // It may have ended by itself, and that is as good.
                let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
                Ok(())
            }
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
        }
    }

    /// Makes everything as it was.
    pub(super) fn undo(self, stage: &Stage) -> Result<(), LabError> {
        let owner = &stage.owner;
        match self {
            Self::Stop | Self::Kill => owner.start_daemon(),
            Self::Freeze => owner.thaw(),
            Self::FreezeDaemon => stage.signal_daemon(Signal::SIGCONT),
            Self::LinkDown | Self::Cut => stage.lab.set_cable(owner, Cable::Whole),
            Self::KillNginx => owner.start_web(),
            Self::FreezeNginx => {
                owner.signal("nginx", Signal::SIGCONT);
                Ok(())
            }
            Self::Restart
            | Self::LateRestart
            | Self::KillOne
            | Self::Thaw
            | Self::Stall500ms
            | Self::Stall50ms
            | Self::Repair
            | Self::DeleteVip
            | Self::Reload => Ok(()),
        }
    }
}

/// Kills all processes of the owner's daemon in one moment: none may notice the end of another one and act.
fn kill_daemon(stage: &Stage) -> Result<(), LabError> {
    stage.signal_daemon(Signal::SIGSTOP)?;
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
