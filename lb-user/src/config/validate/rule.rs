//! Policy rules.

use toml::Spanned;

use super::{Findings, copied, unique};
use crate::config::{model::Rule, raw::RawRule, report::Problem};

/// Policy rules; no two may be the same.
pub(super) fn rules(raw: &[Spanned<RawRule>], findings: &mut Findings<'_>) -> Vec<Rule> {
    let rules: Vec<(Rule, std::ops::Range<usize>)> =
        raw.iter().filter_map(|raw| Some((rule(raw, findings)?, raw.span()))).collect();
    unique(rules.iter().map(|(rule, span)| (rule, span.clone())), findings, |rule, span, first| {
        Problem::at(span, format!("the rule {rule} is listed twice")).related(first, "the first time")
    });
    rules.into_iter().map(|(rule, _)| rule).collect()
}

fn rule(spanned: &Spanned<RawRule>, findings: &mut Findings<'_>) -> Option<Rule> {
    let raw = spanned.get_ref();
    let (from, to) = (copied(raw.from.as_ref()).flatten(), copied(raw.to.as_ref()).flatten());
    if let (Some(from), Some(to)) = (from, to)
        && from.addr().is_ipv4() != to.addr().is_ipv4()
        && let (Some(place), Some(other)) = (&raw.to, &raw.from)
    {
        findings.problems.push(
            Problem::at(place.span(), "`to` is of another family than `from`")
                .related(other.span(), "from")
                .expected("both IPv4, or both IPv6"),
        );
    }
    let matches_all = from.is_none() && to.is_none() && raw.mark.is_none();
    if raw.sound && matches_all && raw.iif.is_none() && raw.oif.is_none() {
        findings.problems.push(
            Problem::at(spanned.span(), "the rule is for every packet of the node")
                .expected("`from`, `to`, `iif`, `oif` or `mark`"),
        );
    }
    let text = |value: &Option<Spanned<String>>| value.as_ref().map(|value| value.get_ref().clone());
    Some(Rule {
        is_ipv6: from.or(to).is_some_and(|net| net.addr().is_ipv6()),
        from,
        to,
        iif: text(&raw.iif),
        oif: text(&raw.oif),
        mark: copied(raw.mark.as_ref()),
        priority: copied(raw.priority.as_ref())?,
        table: copied(raw.table.as_ref())?,
    })
}
