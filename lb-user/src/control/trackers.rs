//! The states of everything that is tracked, and what they mean for a virtual router.

use std::collections::BTreeMap;

use tracing::{info, warn};

use super::{desired::Condition, health::Health, world::World};
use crate::{
    config::{Config, Mode, TrackFile, TrackProcess, TrackScript, Tracker, VirtualRouter, Weight},
    health::Level,
    time::Timestamp,
    track::{Effects, Machine, Reading, TrackEvent, Value, WatchEvent, effects},
};

/// Every script, process and file that is tracked.
#[derive(Debug, Default)]
pub(super) struct Trackers {
    scripts: BTreeMap<String, Script>,
    processes: BTreeMap<String, Process>,
    files: BTreeMap<String, File>,
}

#[derive(Debug)]
struct Script {
    script: TrackScript,
    machine: Machine,
}

#[derive(Debug)]
struct Process {
    wanted: TrackProcess,
    level: Level,
    count: usize,
}

#[derive(Debug)]
struct File {
    file: TrackFile,
    /// The number and its words, once it was read.
    content: Option<(i64, String)>,
}

/// What the network and the health checks know.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub(super) config: &'a Config,
    pub(super) world: &'a World,
    pub(super) health: &'a Health,
}

impl Trackers {
    /// Takes a configuration. What is tracked as before keeps its state.
    pub(super) fn configure(&mut self, config: &Config, now: Timestamp) {
        let mut old = std::mem::take(self);
        for script in &config.track_scripts {
            let known = old.scripts.remove(&script.name).filter(|known| {
                (&known.script.command, &known.script.user) == (&script.command, &script.user)
            });
            let state = match known {
                Some(mut known) => {
                    known.machine.reconfigure(script);
                    Script { script: script.clone(), ..known }
                }
                None => Script { script: script.clone(), machine: Machine::new(script, now) },
            };
            self.scripts.insert(script.name.clone(), state);
        }
        for process in &config.track_processes {
            let known = old.processes.remove(&process.name).filter(|known| known.wanted == *process);
            let new = || Process { wanted: process.clone(), level: Level::Unknown, count: 0 };
            self.processes.insert(process.name.clone(), known.unwrap_or_else(new));
        }
        for file in &config.track_files {
            let known = old.files.remove(&file.name).filter(|known| known.file == *file);
            let new = || File { file: file.clone(), content: None };
            self.files.insert(file.name.clone(), known.unwrap_or_else(new));
        }
    }

    /// Takes the result of a script's run; says whether its level changed.
    pub(super) fn script_event(&mut self, event: &TrackEvent) -> bool {
        let Some(script) = self.scripts.get_mut(&event.script) else { return false };
        let Some(transition) = script.machine.result(event.at, event.ok, &event.detail) else {
            return false;
        };
        let (script, detail) = (&event.script, &event.detail);
        match transition.to {
            Level::Down => warn!(%script, %detail, "track script fails"),
            Level::Up | Level::Unknown => info!(%script, %detail, "track script succeeds"),
        }
        true
    }

    /// Takes what changed of a process or file; says whether that may mean something.
    pub(super) fn watch_event(&mut self, event: WatchEvent) -> bool {
        match event {
            WatchEvent::Process { name, level, count } => {
                let Some(process) = self.processes.get_mut(&name) else { return false };
                (process.level, process.count) = (level, count);
                match level {
                    Level::Down => warn!(process = %name, count, "not the right number of processes"),
                    Level::Up | Level::Unknown => info!(process = %name, count, "processes run"),
                }
            }
            WatchEvent::File { name, value, detail } => {
                let Some(file) = self.files.get_mut(&name) else { return false };
                info!(file = %name, %detail, "track file");
                file.content = Some((value, detail));
            }
        }
        true
    }

    /// What all that a virtual router watches amounts to: its interface and its own trackers, and those of its group and
    /// of all the group's members, since these are fit together or not at all.
    pub(super) fn effects(&self, router: &VirtualRouter, around: Surroundings<'_>) -> Effects {
        let group = around.config.group_of(&router.name);
        let others = around.config.virtual_routers.iter().filter(|other| {
            other.name != router.name && group.is_some_and(|group| group.routers.contains(&other.name))
        });
        let of_group = group.into_iter().flat_map(|group| &group.tracking);
        let mut seen: Vec<&Tracker> = Vec::new();
        let mut readings = vec![(Weight::default(), interface(&router.interface, router, around.world))];
        for tracked in router.tracking.iter().chain(of_group) {
            seen.push(&tracked.what);
            readings.push((tracked.weight, self.reading(&tracked.what, router, around)));
        }
        for other in others {
            let mut add = |weight, reading: Reading| {
                readings.push((
                    weight,
                    Reading { words: format!("{}: {}", other.name, reading.words), ..reading },
                ));
            };
            if other.interface != router.interface {
                add(Weight::default(), interface(&other.interface, router, around.world));
            }
            for tracked in &other.tracking {
                // What two members watch counts once.
                if !seen.contains(&&tracked.what) {
                    seen.push(&tracked.what);
                    add(tracked.weight, self.reading(&tracked.what, router, around));
                }
            }
        }
        effects(router.priority, readings)
    }

    fn reading(&self, tracker: &Tracker, router: &VirtualRouter, around: Surroundings<'_>) -> Reading {
        let (value, words) = match tracker {
            // Invariant: the configuration names only what exists.
            Tracker::Script(name) => self.scripts.get(name).map(Script::reading).unwrap_or_default(),
            Tracker::Process(name) => self.processes.get(name).map(Process::reading).unwrap_or_default(),
            Tracker::File(name) => self.files.get(name).map(File::reading).unwrap_or_default(),
            Tracker::Interface(name) => return interface(name, router, around.world),
            Tracker::Service { name, minimum, local } => service(name, *minimum, *local, around),
        };
        Reading { value, words, hand_over: true }
    }

    /// Kind, name, state and last words of everything that is tracked by a table of its own.
    pub(super) fn describe(&self) -> impl Iterator<Item = (&'static str, &str, String, String)> {
        let level = |level: Level| match level {
            Level::Unknown => "checking".to_owned(),
            Level::Up => "up".to_owned(),
            Level::Down => "down".to_owned(),
        };
        let scripts = self.scripts.iter().map(move |(name, script)| {
            let machine = &script.machine;
            ("script", name.as_str(), level(machine.level()), machine.detail().to_owned())
        });
        let processes = self.processes.iter().map(move |(name, process)| {
            ("process", name.as_str(), level(process.level), format!("{} running", process.count))
        });
        let files = self.files.iter().map(|(name, file)| match &file.content {
            None => ("file", name.as_str(), "checking".to_owned(), "not read yet".to_owned()),
            Some((value, detail)) => ("file", name.as_str(), value.to_string(), detail.clone()),
        });
        scripts.chain(processes).chain(files)
    }
}

impl Script {
    fn reading(&self) -> (Value, String) {
        let level = self.machine.level();
        let verb = match level {
            Level::Unknown => "has not ended yet",
            Level::Up => "succeeds",
            Level::Down => "fails",
        };
        let words = format!("track script {} {verb} ({})", self.script.name, self.machine.detail());
        (Value::Level(level), words)
    }
}

impl Process {
    fn reading(&self) -> (Value, String) {
        (Value::Level(self.level), format!("track process {}: {} running", self.wanted.name, self.count))
    }
}

impl File {
    fn reading(&self) -> (Value, String) {
        match &self.content {
            None => Default::default(),
            Some((value, detail)) => {
                (Value::Number(*value), format!("track file {} says {detail}", self.file.name))
            }
        }
    }
}

/// A node that has lost the virtual router's own interface cannot hand anything over.
fn interface(name: &str, router: &VirtualRouter, world: &World) -> Reading {
    let (level, state) = match world.link_named(name) {
        None => (Level::Down, "gone"),
        Some(link) if !link.usable() => (Level::Down, "down"),
        Some(_) => (Level::Up, "up"),
    };
    Reading {
        value: Value::Level(level),
        words: format!("interface {name} is {state}"),
        hand_over: name != router.interface,
    }
}

fn service(name: &str, minimum: u32, local: bool, around: Surroundings<'_>) -> (Value, String) {
    // Invariant: the configuration names only what exists.
    let Some(service) = around.config.services.iter().find(|service| service.name == name) else {
        return Default::default();
    };
    let (mut up, mut checking) = (0, 0);
    for backend in service.backends.iter().filter(|backend| backend.weight > 0 && !backend.backup) {
        let is_local = backend.mode == Mode::Local || around.world.is_own(backend.address);
        if local && !is_local {
            continue;
        }
        match around.health.condition(service, backend.address, backend.port) {
            Condition::Up => up += 1,
            Condition::Checking => checking += 1,
            Condition::Leaving | Condition::Spared | Condition::Failed => {}
        }
    }
    let level = match minimum {
        minimum if up >= minimum => Level::Up,
        minimum if up + checking >= minimum => Level::Unknown,
        _ => Level::Down,
    };
    let place = if local { " on this node" } else { "" };
    let plural = if up == 1 { "" } else { "s" };
    (Value::Level(level), format!("service {name} has {up} healthy backend{plural}{place}"))
}

#[cfg(test)]
mod tests;
