//! What is tracked: scripts, processes and files, and the virtual routers and groups that name them.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use toml::Spanned;

use super::{Context, Findings, check::timeout_within, copied, unique, unique_names};
use crate::config::{
    model::{ProcessMatch, TrackFile, TrackProcess, TrackScript, Tracked, Tracker, Weight},
    raw::{RawConfig, RawEffect, RawTrackFile, RawTrackProcess, RawTrackScript, RawTracking, RawUse},
    read::nearest,
    report::Problem,
};

const DEFAULT_SCRIPT_INTERVAL: Duration = Duration::from_secs(1);
/// As keepalived's: the number itself is added.
const FILE_WEIGHT: i32 = 1;
/// The kernel keeps so many bytes of a process's name.
const NAME_BYTES: usize = 15;

/// What can be tracked, by its name, with the weight its table gives it.
pub(super) struct Known<'r> {
    scripts: BTreeMap<&'r str, Weight>,
    processes: BTreeMap<&'r str, Weight>,
    files: BTreeMap<&'r str, Weight>,
    services: BTreeMap<&'r str, Weight>,
}

impl<'r> Known<'r> {
    pub(super) fn new(raw: &'r RawConfig) -> Self {
        let scripts = raw.track_scripts.iter().map(Spanned::get_ref);
        let processes = raw.track_processes.iter().map(Spanned::get_ref);
        let files = raw.track_files.iter().map(Spanned::get_ref);
        let services = raw.services.iter().map(Spanned::get_ref);
        let named =
            |name: &'r Option<Spanned<String>>, weight| Some((name.as_ref()?.get_ref().as_str(), weight));
        Self {
            scripts: scripts
                .filter_map(|raw| named(&raw.name, weight(&raw.effect, Weight::default())))
                .collect(),
            processes: processes
                .filter_map(|raw| named(&raw.name, weight(&raw.effect, Weight::default())))
                .collect(),
            files: files
                .filter_map(|raw| {
                    let default = Weight { value: FILE_WEIGHT, reverse: false };
                    named(&raw.name, weight(&raw.effect, default))
                })
                .collect(),
            services: services.filter_map(|raw| named(&raw.name, Weight::default())).collect(),
        }
    }
}

fn weight(raw: &RawEffect, default: Weight) -> Weight {
    Weight {
        value: copied(raw.weight.as_ref()).unwrap_or(default.value),
        reverse: copied(raw.reverse.as_ref()).unwrap_or(default.reverse),
    }
}

/// What a virtual router or group tracks, and where it names interfaces.
pub(super) fn tracking(
    raw: &RawTracking,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> (Vec<Tracked>, Vec<(String, Range<usize>)>) {
    let known = &context.trackers;
    let mut tracked = Vec::new();
    let mut add = |what: &str,
                   uses: &[RawUse],
                   known: Option<&BTreeMap<&str, Weight>>,
                   make: &dyn Fn(&RawUse) -> Tracker| {
        let names = uses.iter().map(|one| (one.name.get_ref().as_str(), one.name.span()));
        unique(names, findings, |name, span, first| {
            Problem::at(span, format!("{what} {name:?} is listed twice"))
                .related(first, "the first time")
                .help("its weight would count twice; remove one")
        });
        for one in uses {
            let name = one.name.get_ref().as_str();
            let default = match known {
                None => Weight::default(),
                Some(known) => {
                    let Some(weight) = known.get(name) else {
                        let names: Vec<&str> = known.keys().copied().collect();
                        findings.problems.push(unknown(what, &one.name, &names));
                        continue;
                    };
                    *weight
                }
            };
            tracked.push(Tracked { what: make(one), weight: weight(&one.effect, default) });
        }
    };
    let name = |one: &RawUse| one.name.get_ref().clone();
    add("track script", &raw.scripts, Some(&known.scripts), &|one| Tracker::Script(name(one)));
    add("track process", &raw.processes, Some(&known.processes), &|one| Tracker::Process(name(one)));
    add("track file", &raw.files, Some(&known.files), &|one| Tracker::File(name(one)));
    add("interface", &raw.interfaces, None, &|one| Tracker::Interface(name(one)));
    add("service", &raw.services, Some(&known.services), &|one| Tracker::Service {
        name: name(one),
        minimum: copied(one.minimum.as_ref()).unwrap_or(1),
        local: copied(one.local.as_ref()).unwrap_or(false),
    });
    let interfaces = raw.interfaces.iter().map(|one| (name(one), one.name.span())).collect();
    (tracked, interfaces)
}

fn unknown(what: &str, name: &Spanned<String>, known: &[&str]) -> Problem {
    let hint = match nearest(name.get_ref(), known) {
        Some(known) => format!("did you mean {known:?}?"),
        None => format!("add [[{}]] with name = {:?}", what.replace(' ', "_"), name.get_ref()),
    };
    Problem::at(name.span(), format!("no {what} is named {:?}", name.get_ref())).help(hint)
}

/// Every use of a kind of tracker.
fn uses<'r>(
    raw: &'r RawConfig,
    of: impl Fn(&'r RawTracking) -> &'r [RawUse],
) -> impl Iterator<Item = &'r str> {
    let routers = raw.virtual_routers.iter().map(|router| &router.get_ref().tracking);
    let groups = raw.sync_groups.iter().map(|group| &group.get_ref().tracking);
    routers.chain(groups).flat_map(of).map(|one| one.name.get_ref().as_str())
}

/// Notes two trackers of one name, and those that nobody uses.
fn names<'r>(
    what: &str,
    list: &str,
    names: impl Iterator<Item = &'r Spanned<String>> + Clone,
    used: &[&str],
    findings: &mut Findings<'_>,
) {
    unique_names(what, names.clone(), findings);
    for name in names.filter(|name| !used.contains(&name.get_ref().as_str())) {
        findings.warnings.push(
            Problem::at(name.span(), format!("no virtual router uses {what} {:?}", name.get_ref())).help(
                format!(
                    "nobody looks at it; name it under `{list}` of a [[virtual_router]] or [[sync_group]]"
                ),
            ),
        );
    }
}

pub(super) fn track_scripts(raw: &RawConfig, findings: &mut Findings<'_>) -> Vec<TrackScript> {
    let scripts = raw.track_scripts.iter().map(Spanned::get_ref);
    let used: Vec<&str> = uses(raw, |tracking| &tracking.scripts).collect();
    names("track script", "track_scripts", scripts.clone().filter_map(|s| s.name.as_ref()), &used, findings);
    scripts.filter_map(|script| track_script(script, findings)).collect()
}

fn track_script(raw: &RawTrackScript, findings: &mut Findings<'_>) -> Option<TrackScript> {
    let interval = copied(raw.timing.interval.as_ref()).unwrap_or(DEFAULT_SCRIPT_INTERVAL);
    timeout_within(&raw.timing, interval, "1s", findings);
    let command = raw.command.as_ref()?;
    warn_of_shell(command, findings);
    Some(TrackScript {
        name: raw.name.as_ref()?.get_ref().clone(),
        command: command.get_ref().clone(),
        interval,
        timeout: copied(raw.timing.timeout.as_ref()).unwrap_or(interval),
        rise: copied(raw.timing.rise.as_ref()).unwrap_or(1),
        fall: copied(raw.timing.fall.as_ref()).unwrap_or(1),
        initially_up: copied(raw.initially_up.as_ref()),
        user: raw.user.as_ref().map(|user| user.get_ref().clone()),
    })
}

pub(super) fn warn_of_shell(command: &Spanned<Vec<String>>, findings: &mut Findings<'_>) {
    if let Some(word) = command.get_ref().iter().find(|word| means_something_to_a_shell(word)) {
        findings.warnings.push(
            Problem::at(command.span(), format!("{word:?} is passed to the program as it is"))
                .help("there is no shell; if one is meant: command = [\"sh\", \"-c\", \"…\"]"),
        );
    }
}

fn means_something_to_a_shell(word: &str) -> bool {
    ["|", "||", "&", "&&", ";", ">", ">>", "<", "2>&1"].contains(&word)
        || word.starts_with("$(")
        || word.ends_with(';')
}

pub(super) fn track_processes(raw: &RawConfig, findings: &mut Findings<'_>) -> Vec<TrackProcess> {
    let processes = raw.track_processes.iter().map(Spanned::get_ref);
    let used: Vec<&str> = uses(raw, |tracking| &tracking.processes).collect();
    let all = processes.clone().filter_map(|process| process.name.as_ref());
    names("track process", "track_processes", all, &used, findings);
    processes.filter_map(|process| track_process(process, findings)).collect()
}

fn track_process(raw: &RawTrackProcess, findings: &mut Findings<'_>) -> Option<TrackProcess> {
    let command = raw.command.as_ref()?;
    if let ProcessMatch::Name(name) = command.get_ref()
        && name.len() > NAME_BYTES
    {
        findings.warnings.push(
            Problem::at(command.span(), format!("the kernel keeps {NAME_BYTES} bytes of a process's name"))
                .help("all whose names begin with these are meant; its program, from / on, tells them apart"),
        );
    }
    let (quorum, quorum_max) =
        (copied(raw.quorum.as_ref()).unwrap_or(1), copied(raw.quorum_max.as_ref()).unwrap_or(u32::MAX));
    if quorum > quorum_max
        && let Some(most) = &raw.quorum_max
    {
        let problem = Problem::at(most.span(), format!("`quorum_max` is below the quorum, {quorum}"))
            .expected("at least the quorum");
        findings.problems.push(match &raw.quorum {
            Some(quorum) => problem.related(quorum.span(), "the quorum"),
            None => {
                problem.help("`quorum` is 1 unless given; for processes that must not run write quorum = 0")
            }
        });
    }
    Some(TrackProcess {
        name: raw.name.as_ref()?.get_ref().clone(),
        command: command.get_ref().clone(),
        quorum,
        quorum_max,
        fork_delay: copied(raw.fork_delay.as_ref()).unwrap_or_default(),
        terminate_delay: copied(raw.terminate_delay.as_ref()).unwrap_or_default(),
    })
}

pub(super) fn track_files(raw: &RawConfig, findings: &mut Findings<'_>) -> Vec<TrackFile> {
    let files = raw.track_files.iter().map(Spanned::get_ref);
    let used: Vec<&str> = uses(raw, |tracking| &tracking.files).collect();
    names("track file", "track_files", files.clone().filter_map(|file| file.name.as_ref()), &used, findings);
    files.filter_map(track_file).collect()
}

fn track_file(raw: &RawTrackFile) -> Option<TrackFile> {
    Some(TrackFile {
        name: raw.name.as_ref()?.get_ref().clone(),
        path: raw.path.as_ref()?.get_ref().clone(),
        initial: copied(raw.initial.as_ref()).unwrap_or(0),
    })
}
