//! Runs the probes of many backends and sends what they saw to the control task.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    time::Duration,
};

use tokio::{sync::mpsc, task::AbortHandle};

use super::{ProbeError, RiseFall, Schedule, VipPath, first_delay, probe::Prober};
use crate::{
    config::Check,
    time::Timestamp,
    track::{Leftover, Spawner, lasts_until_due},
};

/// Whose result it is; chosen by the control task.
///
/// Results of a target that was replaced may still be on their way: whoever needs to tell them apart gives
/// the new target a new identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CheckId(pub u64);

/// A backend to be probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Named in every event.
    pub id: CheckId,
    /// The backend's address.
    pub address: IpAddr,
    /// The backend's port; `check.port` takes precedence.
    pub port: u16,
    /// What to ask and how often; its `rise` and `fall` are the [`Machine`](super::Machine)'s business.
    pub check: Check,
    /// The address to ask from; `None`: the kernel's choice. A node that owns a VIP must not ask from it.
    pub source: Option<IpAddr>,
    /// The VIP and port of the service: the HTTP `Host` unless the check names one.
    pub vip: SocketAddr,
    /// The way on which the backend is asked for the VIP once the check passes.
    pub vip_path: VipPath,
}

/// One probe is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthEvent {
    /// Whose.
    pub id: CheckId,
    /// When the probe was over.
    pub at: Timestamp,
    /// How long it took, or why it failed.
    pub result: Result<Duration, ProbeError>,
}

/// Runs one task per target, so that there is never more than one probe of a target in flight. Dropping it
/// stops all.
#[derive(Debug)]
pub struct Checker {
    events: mpsc::Sender<HealthEvent>,
    spawner: Spawner,
    running: HashMap<CheckId, Running>,
}

#[derive(Debug)]
struct Running {
    target: Target,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Checker {
    /// Events go to `events`; when nobody receives them any more the probing ends by itself. A full channel
    /// delays the next probe, it loses nothing. Fails when the thread that starts commands cannot be made.
    pub fn new(events: mpsc::Sender<HealthEvent>) -> io::Result<Self> {
        Ok(Self { events, spawner: Spawner::new()?, running: HashMap::new() })
    }

    /// Makes `targets` the ones that are probed. Targets that ask the same as before are not disturbed; the
    /// others start, restart or stop. Of two targets with one identifier the last counts. Call it inside a
    /// tokio runtime.
    pub fn set(&mut self, targets: &[Target]) {
        let wanted: HashMap<CheckId, &Target> = targets.iter().map(|target| (target.id, target)).collect();
        self.running
            .retain(|id, running| wanted.get(id).is_some_and(|target| running.target.asks_as(target)));
        let new: Vec<&Target> =
            wanted.into_values().filter(|target| !self.running.contains_key(&target.id)).collect();
        for target in &new {
            let spawner = self.spawner.clone();
            let task = tokio::spawn(run((*target).clone(), new.len(), spawner, self.events.clone()));
            let running = Running { target: (*target).clone(), task: task.abort_handle() };
            self.running.insert(target.id, running);
        }
    }
}

impl Target {
    /// Where to connect.
    pub fn endpoint(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.check.port.unwrap_or(self.port))
    }

    /// Whether a probe of `other` would be the same, at the same times.
    fn asks_as(&self, other: &Self) -> bool {
        self.endpoint() == other.endpoint()
            && (self.source, self.vip, self.vip_path) == (other.source, other.vip, other.vip_path)
            && self.check.kind == other.check.kind
            && times(&self.check) == times(&other.check)
    }
}

/// What decides when a probe is made.
fn times(check: &Check) -> (Duration, Duration, Duration, u32, u32) {
    (check.interval, check.timeout, check.fast_interval, check.rise, check.fall)
}

/// Probes for ever; `started_together` targets are started at once.
async fn run(target: Target, started_together: usize, spawner: Spawner, events: mpsc::Sender<HealthEvent>) {
    let endpoint = target.endpoint();
    let place = crate::balance::stable_hash(endpoint.ip(), endpoint.port(), 0);
    let first = Timestamp::now() + first_delay(place, started_together, target.check.interval);
    let mut schedule = Schedule::new(first, target.check.interval);
    let mut verdict = RiseFall::new(target.check.rise, target.check.fall);
    let (id, fast_interval) = (target.id, target.check.fast_interval);
    let mut prober = Prober::new(target, spawner);
    loop {
        tokio::time::sleep(schedule.next().since(Timestamp::now())).await;
        let started = Timestamp::now();
        let result = prober.probe().await;
        let at = Timestamp::now();
        if result.as_ref().err().is_none_or(|error| !error.is_inconclusive()) {
            verdict.record(result.is_ok());
        }
        let result = result.map(|()| at.since(started));
        if events.send(HealthEvent { id, at, result }).await.is_err() {
            return;
        }
        schedule.advance(at);
        // One more result or a few may change the backend's state: they are not waited for.
        if verdict.contrary() > 0 {
            schedule.hurry(at + fast_interval);
        }
        if let Some(leftover) = prober.leftover() {
            outlast(leftover, id, &mut schedule, &events).await;
        }
    }
}

/// Waits until a command that was killed is gone, and reports a failure whenever a probe would have been due.
async fn outlast(
    leftover: Leftover,
    id: CheckId,
    schedule: &mut Schedule,
    events: &mpsc::Sender<HealthEvent>,
) {
    let mut gone = pin!(leftover.gone());
    while let Some(at) = lasts_until_due(gone.as_mut(), schedule.next()).await {
        // If nobody receives it, the caller finds out.
        let _ = events.send(HealthEvent { id, at, result: Err(ProbeError::CommandStuck) }).await;
        schedule.advance(at);
    }
}

#[cfg(test)]
mod tests;
