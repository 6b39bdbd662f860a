//! Policy rules.

use ipnet::IpNet;
use toml::{Spanned, de::DeValue};

use super::placement::destination;
use crate::config::{
    read::{Parsed, Reader, wrong_type},
    value,
};

pub(in crate::config) struct RawRule {
    /// `None` within: `"default"`, everything.
    pub(in crate::config) from: Option<Spanned<Option<IpNet>>>,
    /// The same.
    pub(in crate::config) to: Option<Spanned<Option<IpNet>>>,
    pub(in crate::config) iif: Option<Spanned<String>>,
    pub(in crate::config) oif: Option<Spanned<String>>,
    pub(in crate::config) mark: Option<Spanned<(u32, u32)>>,
    pub(in crate::config) priority: Option<Spanned<u32>>,
    pub(in crate::config) table: Option<Spanned<u32>>,
    /// No mistake in it, so what is missing was not written.
    pub(in crate::config) sound: bool,
}

pub(super) fn rule(table: &mut Reader<'_, '_>) -> RawRule {
    let mistakes = table.mistakes();
    RawRule {
        from: table.optional("from", destination),
        to: table.optional("to", destination),
        iif: table.optional("iif", value::interface),
        oif: table.optional("oif", value::interface),
        mark: table.optional("mark", mark),
        priority: table.required(
            "priority",
            "priority = 100, in which order rules are looked at",
            value::number(1..=32_765),
        ),
        table: table.required(
            "table",
            "table = 100, the routing table to look in",
            value::number(1..=u32::MAX.into()),
        ),
        sound: mistakes == table.mistakes(),
    }
}

/// A number, or a number and which of its bits count: `"0x10/0xf0"`.
fn mark(key: &str, value: &Spanned<DeValue<'_>>) -> Parsed<(u32, u32)> {
    let expected = "a number, or one with a mask such as \"0x10/0xf0\"";
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    let parsed = match value.get_ref() {
        DeValue::String(text) => match text.split_once('/') {
            Some((mark, mask)) => number(mark).zip(number(mask)),
            None => number(text).map(|mark| (mark, u32::MAX)),
        },
        _ => Some((value::number(0..=u32::MAX.into())(key, value)?, u32::MAX)),
    };
    parsed.filter(|(mark, mask)| mark & !mask == 0).ok_or_else(|| wrong_type(key, value, expected))
}
