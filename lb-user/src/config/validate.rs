//! (in work)
use super::{Config, host::Spans, raw::RawConfig, report::Problem};

pub(super) fn validate(raw: RawConfig, problems: &mut Vec<Problem>, warnings: &mut Vec<Problem>) -> Option<(Config, Spans)> {
    let _ = (raw, problems, warnings);
    None
}
