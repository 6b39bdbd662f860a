//! Structured logs to standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// The variable that holds the filter.
pub(crate) const FILTER_VARIABLE: &str = "LB_LOG";

/// Starts logging: text or JSON, at `info` unless `LB_LOG` says otherwise. An unreadable filter is said and
/// replaced by the default.
pub(crate) fn start(json: bool) {
    let wanted = std::env::var(FILTER_VARIABLE).unwrap_or_default();
    let (filter, problem) = match EnvFilter::try_new(if wanted.is_empty() { "info" } else { &wanted }) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if json {
        builder.json().init();
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).init();
    }
    if let Some(error) = problem {
        tracing::warn!(%error, "{FILTER_VARIABLE}={wanted}: not a filter; logging at info");
    }
}
