//! Health checks, and the timing they share with what else runs again and again.

use std::{collections::BTreeMap, ops::Range, path::PathBuf, time::Duration};

use toml::Spanned;

use super::{Findings, copied, track::warn_of_shell};
use crate::config::{
    model::{Authorities, Check, CheckKind, CommandCheck, HttpCheck, Tls},
    raw::{RawCheck, RawCheckChoice, RawConfig, RawTiming},
    report::Problem,
};

const DEFAULT_CHECK_INTERVAL: Duration = Duration::from_secs(2);
const DEFAULT_CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// The model of a check; `None` after a mistake in it.
pub(super) fn check(raw: &RawCheck, findings: &mut Findings<'_>) -> Option<Check> {
    let interval = copied(raw.timing.interval.as_ref()).unwrap_or(DEFAULT_CHECK_INTERVAL);
    fast_within(raw, interval, findings);
    Some(Check {
        kind: kind(raw, findings)?,
        interval,
        fast_interval: copied(raw.fast_interval.as_ref()).unwrap_or(interval),
        timeout: copied(raw.timing.timeout.as_ref()).unwrap_or(DEFAULT_CHECK_TIMEOUT),
        rise: copied(raw.timing.rise.as_ref()).unwrap_or(2),
        fall: copied(raw.timing.fall.as_ref()).unwrap_or(3),
        port: copied(raw.port.as_ref()),
    })
}

const KINDS: &str =
    "one of { tcp = true }, { http = \"/path\" }, { https = \"/path\" } and { command = \"/path/program\" }";

/// Keys that mean something to some kinds only: where one stands, its name, and for which kinds it is.
type Special = (Option<Range<usize>>, &'static str, &'static [&'static str]);

fn kind(raw: &RawCheck, findings: &mut Findings<'_>) -> Option<CheckKind> {
    if !raw.sound {
        return None;
    }
    let given: Vec<(&'static str, Range<usize>)> = [
        ("tcp", raw.tcp.as_ref().map(Spanned::span)),
        ("http", raw.http.as_ref().map(Spanned::span)),
        ("https", raw.https.as_ref().map(Spanned::span)),
        ("command", raw.command.as_ref().map(Spanned::span)),
    ]
    .into_iter()
    .filter_map(|(kind, span)| Some((kind, span?)))
    .collect();
    let (kind, span) = match &given[..] {
        [] => {
            findings
                .problems
                .push(Problem::at(raw.span.clone(), "the check does not say what it asks").expected(KINDS));
            return None;
        }
        [(kind, span)] => (*kind, span.clone()),
        [(first, place), (second, span), ..] => {
            findings.problems.push(
                Problem::at(span.clone(), format!("a check is either `{first}` or `{second}`"))
                    .related(place.clone(), format!("and this is `{first}`"))
                    .help("leave one out; an HTTP check connects by TCP anyway"),
            );
            return None;
        }
    };
    check_special(raw, kind, &span, findings);
    if let Some(tcp) = raw.tcp.as_ref().filter(|tcp| !*tcp.get_ref()) {
        findings.problems.push(
            Problem::at(tcp.span(), "`tcp` is false, so the check has no kind")
                .expected("true")
                .help(format!("write {KINDS}; check = \"none\" for no check")),
        );
        return None;
    }
    if let Some(command) = &raw.command {
        warn_of_shell(command, findings);
        return Some(CheckKind::Command(CommandCheck {
            command: command.get_ref().clone(),
            user: raw.user.as_ref().map(|user| user.get_ref().clone()),
            exits: raw.exit.as_ref().map_or_else(|| vec![(0, 0)], |exits| exits.get_ref().clone()),
        }));
    }
    let Some(path) = raw.http.as_ref().or(raw.https.as_ref()) else { return Some(CheckKind::Tcp) };
    let tls = raw.https.as_ref().map(|_| Tls {
        name: raw.sni.as_ref().map(|name| name.get_ref().clone()),
        authorities: raw.ca.as_ref().map(|path| Authorities::File(path.get_ref().clone())),
    });
    Some(CheckKind::Http(HttpCheck {
        path: path.get_ref().clone(),
        host: raw.host.as_ref().map(|host| host.get_ref().clone()),
        statuses: raw.status.as_ref().map_or_else(|| vec![(200, 399)], |status| status.get_ref().clone()),
        md5: copied(raw.md5.as_ref()),
        tls,
    }))
}

/// Notes keys that the kind of check has no use for.
fn check_special(raw: &RawCheck, kind: &str, place: &Range<usize>, findings: &mut Findings<'_>) {
    let special: [Special; 7] = [
        (raw.host.as_ref().map(Spanned::span), "host", &["http", "https"]),
        (raw.status.as_ref().map(Spanned::span), "status", &["http", "https"]),
        (raw.md5.as_ref().map(Spanned::span), "md5", &["http", "https"]),
        (raw.sni.as_ref().map(Spanned::span), "sni", &["https"]),
        (raw.ca.as_ref().map(Spanned::span), "ca", &["https"]),
        (raw.user.as_ref().map(Spanned::span), "user", &["command"]),
        (raw.exit.as_ref().map(Spanned::span), "exit", &["command"]),
    ];
    for (span, key, kinds) in special {
        let Some(span) = span.filter(|_| !kinds.contains(&kind)) else { continue };
        findings.problems.push(
            Problem::at(span, format!("`{key}` means nothing to a check by `{kind}`"))
                .related(place.clone(), "this makes it one")
                .help(format!("leave it out, or write `{}` instead of `{kind}`", kinds.join("` or `"))),
        );
    }
    let names_port = |command: &Spanned<Vec<String>>| {
        let command = CommandCheck { command: command.get_ref().clone(), user: None, exits: Vec::new() };
        command.names_port()
    };
    if let (Some(port), Some(command)) = (&raw.port, &raw.command)
        && !names_port(command)
    {
        findings.problems.push(
            Problem::at(port.span(), "the command does not ask for the `port`")
                .related(command.span(), "the command")
                .help("write {port} where it should stand in the command, or leave `port` out"),
        );
    }
}

/// The files of certificate authorities, where they are first named.
pub(super) fn authorities(raw: &RawConfig) -> BTreeMap<PathBuf, Range<usize>> {
    let services = raw.services.iter().map(Spanned::get_ref);
    let checks = services.flat_map(|service| {
        service.backends.iter().filter_map(|backend| backend.get_ref().check.as_ref()).chain(&service.check)
    });
    let mut files = BTreeMap::new();
    for check in checks {
        if let RawCheckChoice::Check(check) = check
            && let Some(path) = &check.ca
        {
            files.entry(path.get_ref().clone()).or_insert(path.span());
        }
    }
    files
}

/// A backend in doubt is not asked less often than others.
fn fast_within(raw: &RawCheck, interval: Duration, findings: &mut Findings<'_>) {
    let Some(fast) = raw.fast_interval.as_ref().filter(|fast| raw.sound && *fast.get_ref() > interval) else {
        return;
    };
    let shown = humantime::format_duration(interval);
    let problem = Problem::at(fast.span(), format!("`fast_interval` is longer than the interval, {shown}"))
        .expected("at most the interval");
    findings.problems.push(match &raw.timing.interval {
        Some(interval) => problem.related(interval.span(), "the interval"),
        None => problem.help("`interval` is 2s unless given"),
    });
}

/// A script must have ended before the next one starts.
pub(super) fn timeout_within(
    raw: &RawTiming,
    interval: Duration,
    default_interval: &str,
    findings: &mut Findings<'_>,
) {
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
