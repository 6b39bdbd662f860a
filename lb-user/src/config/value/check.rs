//! Values of health checks.

use std::ops::RangeInclusive;

use rustls::pki_types::DnsName;
use toml::de::DeValue;

use super::{Value, string};
use crate::config::{
    read::{Parsed, describe, wrong_type},
    report::Problem,
};

/// The path of an HTTP request.
pub(in crate::config) fn http_path(key: &str, value: &Value<'_>) -> Parsed<String> {
    let text = string(key, value)?;
    if text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        Ok(text)
    } else {
        Err(wrong_type(key, value, "a path that begins with /, without spaces")
            .help("write spaces and other special characters as %20 and so on"))
    }
}

/// A Host header.
pub(in crate::config) fn host(key: &str, value: &Value<'_>) -> Parsed<String> {
    let text = string(key, value)?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:[]%".contains(&byte);
    if !text.is_empty() && text.bytes().all(allowed) {
        Ok(text)
    } else {
        Err(wrong_type(key, value, "the name of a host, with a port if need be, such as \"www.example.org\""))
    }
}

/// A name to ask for by SNI (RFC 6066 §3), which has no place for addresses.
pub(in crate::config) fn server_name(key: &str, value: &Value<'_>) -> Parsed<String> {
    let text = string(key, value)?;
    match DnsName::try_from(text.as_str()) {
        Ok(_) => Ok(text),
        Err(_) => Err(wrong_type(key, value, "the name of a host, such as \"www.example.org\"")),
    }
}

/// An MD5 digest in hexadecimal digits.
pub(in crate::config) fn md5(key: &str, value: &Value<'_>) -> Parsed<[u8; 16]> {
    let text = string(key, value)?;
    let fault = || {
        wrong_type(key, value, "32 hexadecimal digits")
            .help("curl -s http://192.0.2.10/page | md5sum prints them")
    };
    if text.len() != 32 {
        return Err(fault());
    }
    u128::from_str_radix(&text, 16).map(u128::to_be_bytes).map_err(|_| fault())
}

/// Accepted HTTP status codes, as inclusive ranges: a number, `"200-399"`, or an array of these.
pub(in crate::config) fn statuses(key: &str, value: &Value<'_>) -> Parsed<Vec<(u16, u16)>> {
    ranges(key, value, 100..=599, "a status code from 100 to 599, or a range such as \"200-399\"")
}

/// Exit statuses of a command, in the same way.
pub(in crate::config) fn exits(key: &str, value: &Value<'_>) -> Parsed<Vec<(u16, u16)>> {
    ranges(key, value, 0..=255, "an exit status from 0 to 255, or a range such as \"2-255\"")
}

fn ranges(key: &str, value: &Value<'_>, all: RangeInclusive<u16>, expected: &str) -> Parsed<Vec<(u16, u16)>> {
    let Some(array) = value.get_ref().as_array() else {
        return range(key, value, &all, expected).map(|range| vec![range]);
    };
    if array.is_empty() {
        return Err(
            Problem::at(value.span(), format!("`{key}` is empty")).expected("at least one status code")
        );
    }
    array.iter().map(|element| range(key, element, &all, expected)).collect()
}

fn range(key: &str, value: &Value<'_>, all: &RangeInclusive<u16>, expected: &str) -> Parsed<(u16, u16)> {
    let fault = || wrong_type(key, value, expected);
    let code = |text: &str| text.trim().parse().ok().filter(|code| all.contains(code)).ok_or_else(fault);
    let text = match value.get_ref() {
        DeValue::Integer(_) => describe(value.get_ref()),
        DeValue::String(text) => text.to_string(),
        _ => return Err(fault()),
    };
    let (first, last) = text.split_once('-').unwrap_or((&text, &text));
    let range = (code(first)?, code(last)?);
    if range.0 > range.1 {
        return Err(fault().help(format!("the smaller one first: \"{}-{}\"", range.1, range.0)));
    }
    Ok(range)
}
