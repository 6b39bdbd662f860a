//! Health checks and track scripts: what runs again and again, and its timing.

use std::{collections::BTreeSet, time::Duration};

use toml::Spanned;

use super::{Findings, copied, unique_names};
use crate::config::{
    model::{Check, CheckKind, TrackScript},
    raw::{RawCheck, RawConfig, RawTiming, RawTrackScript},
    report::Problem,
};

const DEFAULT_CHECK_INTERVAL: Duration = Duration::from_secs(2);
const DEFAULT_CHECK_TIMEOUT: Duration = Duration::from_secs(1);
const DEFAULT_SCRIPT_INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn track_scripts(raw: &RawConfig, findings: &mut Findings<'_>) -> Vec<TrackScript> {
    let names = raw.track_scripts.iter().filter_map(|script| script.get_ref().name.as_ref());
    unique_names("track script", names, findings);

    let routers = raw.virtual_routers.iter().flat_map(|router| &router.get_ref().track_scripts);
    let used: BTreeSet<&str> =
        routers.flat_map(Spanned::get_ref).map(|name| name.get_ref().as_str()).collect();
    let mut scripts = Vec::new();
    for script in raw.track_scripts.iter().map(Spanned::get_ref) {
        if let Some(name) = script.name.as_ref().filter(|name| !used.contains(name.get_ref().as_str())) {
            findings.warnings.push(
                Problem::at(name.span(), format!("no virtual router uses track script {:?}", name.get_ref()))
                    .help("it is never run; name it under `track_scripts` of a [[virtual_router]]"),
            );
        }
        scripts.extend(track_script(script, findings));
    }
    scripts
}

fn track_script(raw: &RawTrackScript, findings: &mut Findings<'_>) -> Option<TrackScript> {
    let interval = copied(raw.timing.interval.as_ref()).unwrap_or(DEFAULT_SCRIPT_INTERVAL);
    timeout_within(&raw.timing, interval, "1s", findings);
    let command = raw.command.as_ref()?;
    if let Some(word) = command.get_ref().iter().find(|word| means_something_to_a_shell(word)) {
        findings.warnings.push(
            Problem::at(command.span(), format!("{word:?} is passed to the program as it is"))
                .help("there is no shell; if one is meant: command = [\"sh\", \"-c\", \"…\"]"),
        );
    }
    Some(TrackScript {
        name: raw.name.as_ref()?.get_ref().clone(),
        command: command.get_ref().clone(),
        interval,
        timeout: copied(raw.timing.timeout.as_ref()).unwrap_or(interval),
        rise: copied(raw.timing.rise.as_ref()).unwrap_or(1),
        fall: copied(raw.timing.fall.as_ref()).unwrap_or(1),
        weight: copied(raw.weight.as_ref()).unwrap_or(0),
        user: raw.user.as_ref().map(|user| user.get_ref().clone()),
    })
}

fn means_something_to_a_shell(word: &str) -> bool {
    ["|", "||", "&", "&&", ";", ">", ">>", "<", "2>&1"].contains(&word)
        || word.starts_with("$(")
        || word.ends_with(';')
}

/// The model of a check; `None` after a mistake in it.
pub(super) fn check(raw: &RawCheck, findings: &mut Findings<'_>) -> Option<Check> {
    let interval = copied(raw.timing.interval.as_ref()).unwrap_or(DEFAULT_CHECK_INTERVAL);
    timeout_within(&raw.timing, interval, "2s", findings);
    Some(Check {
        kind: kind(raw, findings)?,
        interval,
        timeout: copied(raw.timing.timeout.as_ref()).unwrap_or(DEFAULT_CHECK_TIMEOUT.min(interval)),
        rise: copied(raw.timing.rise.as_ref()).unwrap_or(2),
        fall: copied(raw.timing.fall.as_ref()).unwrap_or(3),
        port: copied(raw.port.as_ref()),
    })
}

fn kind(raw: &RawCheck, findings: &mut Findings<'_>) -> Option<CheckKind> {
    if !raw.sound {
        return None;
    }
    let kinds = "either { tcp = true } or { http = \"/path\" }";
    match (&raw.tcp, &raw.http) {
        (Some(tcp), Some(http)) => {
            findings.problems.push(
                Problem::at(http.span(), "a check is either `http` or `tcp`")
                    .related(tcp.span(), "and this is `tcp`")
                    .help("leave one out; an HTTP check connects by TCP anyway"),
            );
            None
        }
        (Some(tcp), None) if *tcp.get_ref() => {
            let http_only = [
                ("host", raw.host.as_ref().map(Spanned::span)),
                ("status", raw.status.as_ref().map(Spanned::span)),
            ];
            for (key, span) in http_only {
                if let Some(span) = span {
                    findings.problems.push(
                        Problem::at(span, format!("`{key}` means nothing to a TCP check"))
                            .related(tcp.span(), "this makes it one")
                            .help("leave it out, or write http = \"/path\" instead of tcp = true"),
                    );
                }
            }
            Some(CheckKind::Tcp)
        }
        (Some(tcp), None) => {
            findings.problems.push(
                Problem::at(tcp.span(), "`tcp` is false, so the check has no kind")
                    .expected("true")
                    .help(format!("write {kinds}; check = \"none\" for no check")),
            );
            None
        }
        (None, Some(path)) => Some(CheckKind::Http {
            path: path.get_ref().clone(),
            host: raw.host.as_ref().map(|host| host.get_ref().clone()),
            statuses: raw.status.as_ref().map_or_else(|| vec![(200, 399)], |status| status.get_ref().clone()),
        }),
        (None, None) => {
            findings
                .problems
                .push(Problem::at(raw.span.clone(), "the check does not say what it asks").expected(kinds));
            None
        }
    }
}

/// A probe or script must have ended before the next one starts.
fn timeout_within(raw: &RawTiming, interval: Duration, default_interval: &str, findings: &mut Findings<'_>) {
    let Some(timeout) = raw.timeout.as_ref().filter(|timeout| raw.sound && *timeout.get_ref() > interval)
    else {
        return;
    };
    let problem = Problem::at(
        timeout.span(),
        format!("`timeout` is longer than the interval, {}", humantime::format_duration(interval)),
    )
    .expected("at most the interval");
    findings.problems.push(match &raw.interval {
        Some(interval) => problem.related(interval.span(), "the interval"),
        None => problem.help(format!("`interval` is {default_interval} unless given")),
    });
}
