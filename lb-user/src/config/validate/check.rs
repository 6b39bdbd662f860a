//! Health checks, and the timing they share with what else runs again and again.

use std::time::Duration;

use toml::Spanned;

use super::{Findings, copied};
use crate::config::{
    model::{Check, CheckKind},
    raw::{RawCheck, RawTiming},
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
