//! The track scripts' states, and what they mean for a virtual router.

use std::collections::BTreeMap;

use tracing::{info, warn};

use crate::{
    config::{TrackScript, VirtualRouter},
    health::Level,
    time::Timestamp,
    track::{Effects, Machine, TrackEvent, effects},
};

/// Every configured track script.
#[derive(Debug, Default)]
pub(super) struct Scripts {
    scripts: BTreeMap<String, Tracked>,
}

#[derive(Debug)]
struct Tracked {
    script: TrackScript,
    machine: Machine,
}

impl Scripts {
    /// Takes the configured scripts. One that runs the same command as before keeps its state.
    pub(super) fn configure(&mut self, scripts: &[TrackScript], now: Timestamp) {
        let mut old = std::mem::take(&mut self.scripts);
        for script in scripts {
            let tracked = match old.remove(&script.name) {
                Some(mut known)
                    if (&known.script.command, &known.script.user) == (&script.command, &script.user) =>
                {
                    known.machine.reconfigure(script);
                    known.script = script.clone();
                    known
                }
                _ => Tracked { script: script.clone(), machine: Machine::new(script, now) },
            };
            self.scripts.insert(script.name.clone(), tracked);
        }
    }

    /// Takes the result of a run; says whether a level changed.
    pub(super) fn event(&mut self, event: &TrackEvent) -> bool {
        let Some(tracked) = self.scripts.get_mut(&event.script) else { return false };
        let Some(transition) = tracked.machine.result(event.at, event.ok, &event.detail) else {
            return false;
        };
        let (script, detail) = (&event.script, &event.detail);
        match transition.to {
            Level::Down => warn!(%script, %detail, "track script fails"),
            Level::Up | Level::Unknown => info!(%script, %detail, "track script succeeds"),
        }
        true
    }

    /// What the scripts of a virtual router amount to.
    pub(super) fn effects(&self, router: &VirtualRouter) -> Effects {
        let levels = self.of(router).map(|tracked| (tracked.machine.level(), tracked.script.weight));
        effects(router.priority, levels)
    }

    /// The scripts that put a virtual router into fault, in words.
    pub(super) fn failed(&self, router: &VirtualRouter) -> Vec<String> {
        self.of(router)
            .filter(|tracked| tracked.machine.level() == Level::Down && tracked.script.weight == 0)
            .map(|tracked| {
                format!("track script {} fails ({})", tracked.script.name, tracked.machine.detail())
            })
            .collect()
    }

    /// Name, state and last words of each script, in order of name.
    pub(super) fn describe(&self) -> impl Iterator<Item = (&str, &'static str, &str)> {
        self.scripts.iter().map(|(name, tracked)| {
            let state = match tracked.machine.level() {
                Level::Unknown => "checking",
                Level::Up => "up",
                Level::Down => "down",
            };
            (name.as_str(), state, tracked.machine.detail())
        })
    }

    fn of(&self, router: &VirtualRouter) -> impl Iterator<Item = &Tracked> {
        // Invariant: the configuration names only scripts that exist.
        router.track_scripts.iter().filter_map(|name| self.scripts.get(name))
    }
}
