//! Fast detection of dead peers.

use std::time::Duration;

use toml::{Spanned, de::DeValue};

use crate::config::{
    read::{Reader, wrong_type},
    value,
};

pub(in crate::config) enum RawBfd {
    Off,
    On { interval: Option<Duration>, multiplier: Option<u8> },
}

/// `bfd = "off"`, or a table.
pub(super) fn bfd(table: &mut Reader<'_, '_>) -> Option<Spanned<RawBfd>> {
    let value = table.value("bfd")?;
    let raw = match value.get_ref() {
        DeValue::String(text) if &**text == "off" => RawBfd::Off,
        DeValue::Table(inner) => table.inner("[virtual_router.bfd]", inner, value.span(), |bfd| {
            let interval = value::duration(Duration::from_millis(10)..=Duration::from_secs(1));
            RawBfd::On {
                interval: bfd.optional("interval", interval).map(Spanned::into_inner),
                multiplier: bfd.optional("multiplier", value::number(2..=50)).map(Spanned::into_inner),
            }
        }),
        _ => {
            let expected = "\"off\", or a table with `interval` and `multiplier`";
            table.push(
                wrong_type("bfd", value, expected).help("write bfd = \"off\", or [virtual_router.bfd]"),
            );
            return None;
        }
    };
    Some(Spanned::new(value.span(), raw))
}
