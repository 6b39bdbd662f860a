//! Single values: from what TOML has to what the model has.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;
use toml::{Spanned, de::DeValue};

mod check;

use super::{
    model::{ProcessMatch, Secret},
    ports::Ports,
    read::{Parsed, nearest, wrong_type},
    report::Problem,
};

pub(super) use check::{exits, host, http_path, md5, server_name, statuses};

type Value<'t> = Spanned<DeValue<'t>>;

/// Any string.
pub(super) fn string(key: &str, value: &Value<'_>) -> Parsed<String> {
    match value.get_ref() {
        DeValue::String(text) => Ok(text.to_string()),
        _ => Err(wrong_type(key, value, "a string in double quotes")),
    }
}

/// A name that can stand in logs and on command lines.
pub(super) fn name(key: &str, value: &Value<'_>) -> Parsed<String> {
    let text = string(key, value)?;
    if text.is_empty() || text.len() > 64 || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(wrong_type(key, value, "a name of 1 to 64 bytes without spaces"));
    }
    Ok(text)
}

/// The name of a network interface, as the kernel allows it (`dev_valid_name`).
pub(super) fn interface(key: &str, value: &Value<'_>) -> Parsed<String> {
    let text = string(key, value)?;
    match interface_fault(&text) {
        None => Ok(text),
        Some(expected) => Err(wrong_type(key, value, expected)),
    }
}

/// What is expected of an interface's name, if `name` cannot be one.
pub(super) fn interface_fault(name: &str) -> Option<&'static str> {
    let forbidden = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    let valid = (1..=15).contains(&name.len()) && ![".", ".."].contains(&name) && !name.contains(forbidden);
    (!valid).then_some("the name of an interface, 1 to 15 bytes, as `ip link` shows it")
}

/// `true` or `false`.
pub(super) fn boolean(key: &str, value: &Value<'_>) -> Parsed<bool> {
    value.get_ref().as_bool().ok_or_else(|| {
        let problem = wrong_type(key, value, "true or false");
        match value.get_ref() {
            DeValue::String(text) if ["true", "false"].contains(&&**text) => {
                problem.help(format!("write it without quotes: {key} = {text}"))
            }
            _ => problem,
        }
    })
}

/// A whole number in a range.
pub(super) fn number<T: TryFrom<i64>>(range: RangeInclusive<i64>) -> impl Fn(&str, &Value<'_>) -> Parsed<T> {
    move |key, value| {
        let fault = || {
            let expected = format!("a number from {} to {}", range.start(), range.end());
            wrong_type(key, value, &expected)
        };
        match value.get_ref() {
            DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix())
                .ok()
                .filter(|number| range.contains(number))
                .and_then(|number| T::try_from(number).ok())
                .ok_or_else(fault),
            DeValue::String(text) if text.parse::<i64>().is_ok_and(|number| range.contains(&number)) => {
                Err(fault().help(format!("write it without quotes: {key} = {text}")))
            }
            _ => Err(fault()),
        }
    }
}

/// One of a few words.
pub(super) fn choice<T: Copy>(words: &[(&'static str, T)]) -> impl Fn(&str, &Value<'_>) -> Parsed<T> {
    move |key, value| {
        let text = value.get_ref().as_str();
        if let Some((_, meaning)) = words.iter().find(|(word, _)| Some(*word) == text) {
            return Ok(*meaning);
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let list = names.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ");
        let problem = wrong_type(key, value, &format!("one of {list}"));
        Err(match text.and_then(|text| nearest(&text.to_lowercase(), &names)) {
            Some(word) => problem.help(format!("did you mean {word:?}?")),
            None => problem,
        })
    }
}

/// A duration with its unit, in a range.
pub(super) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&str, &Value<'_>) -> Parsed<Duration> {
    move |key, value| {
        let fault = |help: Option<String>| {
            let problem = wrong_type(key, value, "a duration with its unit, such as \"500ms\" or \"2s\"");
            match help {
                Some(help) => problem.help(help),
                None => problem,
            }
        };
        let text = match value.get_ref() {
            DeValue::String(text) => text,
            DeValue::Integer(number) => {
                return Err(fault(Some(format!("for seconds write {key} = \"{number}s\""))));
            }
            DeValue::Float(number) => {
                let milliseconds = number.as_str().parse::<f64>().ok().map(|seconds| seconds * 1_000.0);
                return Err(fault(
                    milliseconds
                        .filter(|ms| ms.is_finite() && *ms >= 1.0)
                        .map(|ms| format!("for seconds write {key} = \"{ms:.0}ms\"")),
                ));
            }
            _ => return Err(fault(None)),
        };
        let duration = humantime::parse_duration(text).map_err(|error| {
            fault(match error {
                humantime::DurationError::Empty => None,
                error => Some(error.to_string()),
            })
        })?;
        if range.contains(&duration) {
            Ok(duration)
        } else {
            let (least, most) =
                (humantime::format_duration(*range.start()), humantime::format_duration(*range.end()));
            Err(wrong_type(key, value, &format!("a duration from {least} to {most}")))
        }
    }
}

/// An address of either family that a host can have.
pub(super) fn address(key: &str, value: &Value<'_>) -> Parsed<IpAddr> {
    let text = string(key, value)?;
    let address: IpAddr = text.parse().map_err(|_| {
        let problem = wrong_type(key, value, "an IP address, such as \"192.0.2.1\"");
        if text.parse::<IpNet>().is_ok() {
            problem.help("leave out the prefix length")
        } else if text.rsplit_once(':').is_some_and(|(host, _)| host.parse::<Ipv4Addr>().is_ok()) {
            problem.help("give the port by the key `port`")
        } else {
            problem.help("names are not resolved here: a name that stops resolving would stop the service")
        }
    })?;
    let fault = match address {
        IpAddr::V4(v4) => unusable(v4),
        IpAddr::V6(v6) => unusable_v6(v6),
    };
    match fault {
        Some(fault) => Err(Problem::at(value.span(), format!("`{key}` is {address}, {fault}"))
            .expected("the address of one host")),
        None => Ok(address),
    }
}

/// As [`address`], but not of the loopback network.
pub(super) fn reachable(key: &str, value: &Value<'_>) -> Parsed<IpAddr> {
    let address = address(key, value)?;
    if address.is_loopback() {
        return Err(Problem::at(value.span(), format!("`{key}` is {address}, a loopback address"))
            .expected("an address other machines can reach"));
    }
    Ok(address)
}

/// As [`reachable`], but link-local addresses too: VRRP knows the interface.
pub(super) fn node(key: &str, value: &Value<'_>) -> Parsed<IpAddr> {
    match string(key, value)?.parse() {
        Ok(IpAddr::V6(address)) if address.is_unicast_link_local() => Ok(address.into()),
        _ => reachable(key, value),
    }
}

/// A group of multicast that no router forwards beyond the link.
pub(super) fn group(key: &str, value: &Value<'_>) -> Parsed<IpAddr> {
    let text = string(key, value)?;
    match text.parse() {
        Ok(IpAddr::V4(address)) if address.is_multicast() => Ok(address.into()),
        // ffX2::/16: of link-local scope (RFC 4291 §2.7).
        Ok(IpAddr::V6(address)) if address.is_multicast() && address.segments()[0] & 0xf == 2 => {
            Ok(address.into())
        }
        _ => Err(wrong_type(key, value, "a multicast address, such as \"224.0.0.18\" or \"ff02::12\"")
            .help("one of IPv6 must be of link-local scope, ff02::/16")),
    }
}

/// A secret that adverts are signed with. Messages never hold it.
pub(super) fn secret(key: &str, value: &Value<'_>) -> Parsed<Secret> {
    let DeValue::String(text) = value.get_ref() else {
        return Err(Problem::at(value.span(), format!("`{key}` is no string")).expected("16 to 64 bytes"));
    };
    Secret::parse(text).map_err(|expected| {
        Problem::at(value.span(), format!("`{key}` is no secret to sign with"))
            .expected(expected)
            .help("make one: echo hex:$(openssl rand -hex 32)")
    })
}

/// A network, or an address as a network of its own.
pub(super) fn network(key: &str, value: &Value<'_>) -> Parsed<IpNet> {
    let text = string(key, value)?;
    let expected = "an address or a network, such as \"10.1.0.1\" or \"10.1.0.0/24\"";
    let Ok(network) = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) else {
        return Err(wrong_type(key, value, expected));
    };
    if network.addr() != network.network() {
        let problem = Problem::at(value.span(), format!("{network} is an address within a network"));
        return Err(problem.expected(expected).help(format!(
            "write {:?} or \"{}\"",
            network.trunc().to_string(),
            network.addr()
        )));
    }
    Ok(network)
}

/// A VIP with the prefix it carries, alone or in a table; without one, /32 or /128. It may be link-local: VRRP knows the interface.
pub(super) fn vip(key: &str, value: &Value<'_>) -> Parsed<IpNet> {
    if let DeValue::Table(table) = value.get_ref() {
        return match table.get("address") {
            Some(address) => vip("address", address),
            None => {
                Err(Problem::at(value.span(), "the VIP has no `address`")
                    .help("add address = \"192.0.2.4/24\""))
            }
        };
    }
    let text = string(key, value)?;
    let prefix = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let Ok(prefix) = prefix else {
        return Err(wrong_type(key, value, "an address with its prefix, such as \"192.0.2.4/24\""));
    };
    let address = prefix.addr();
    // A network of two has no address of its own; IPv6 has no broadcast.
    let has_own = prefix.max_prefix_len() - prefix.prefix_len() > 1;
    let fault = if address.is_loopback() {
        Some("a loopback address")
    } else if has_own && address == prefix.network() {
        Some("the network's own address")
    } else if has_own && address.is_ipv4() && address == prefix.broadcast() {
        Some("the network's broadcast address")
    } else {
        match address {
            IpAddr::V4(v4) => unusable(v4),
            IpAddr::V6(v6) if v6.is_unicast_link_local() => None,
            IpAddr::V6(v6) => unusable_v6(v6),
        }
    };
    match fault {
        Some(fault) => Err(Problem::at(value.span(), format!("`{key}` has {text:?}, {fault}"))
            .expected("the address of one host, with its prefix")),
        None => Ok(prefix),
    }
}

/// The ports of a service: one, `"FIRST-LAST"`, or `"any"`.
pub(super) fn ports(key: &str, value: &Value<'_>) -> Parsed<Ports> {
    let fault =
        || wrong_type(key, value, "a port from 1 to 65535, a range such as \"8000-8099\", or \"any\"");
    let DeValue::String(text) = value.get_ref() else {
        return number(1..=65_535)(key, value).map(Ports::One).map_err(|_| fault());
    };
    if text == "any" {
        return Ok(Ports::Any);
    }
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
    let Some((first, last)) = text.split_once('-') else {
        return Err(match port(text) {
            Some(port) => fault().help(format!("write it without quotes: {key} = {port}")),
            None => fault(),
        });
    };
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first < last => Ok(Ports::Range(first, last)),
        (Some(first), Some(last)) if first > last => {
            Err(fault().help(format!("the smaller one first: \"{last}-{first}\"")))
        }
        (Some(port), Some(_)) => Err(fault().help(format!("for one port write {key} = {port}"))),
        _ => Err(fault()),
    }
}

fn unusable_v6(address: Ipv6Addr) -> Option<&'static str> {
    if address.is_unspecified() {
        Some("the unspecified address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else if address.is_unicast_link_local() {
        Some("a link-local address, which says nothing without its interface")
    } else if address.to_ipv4_mapped().is_some() {
        Some("an IPv4 address in IPv6 clothes; write it as IPv4")
    } else {
        None
    }
}

fn unusable(address: Ipv4Addr) -> Option<&'static str> {
    if address.is_unspecified() {
        Some("the unspecified address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else if address.octets()[0] >= 240 {
        Some("of the reserved range 240.0.0.0/4")
    } else if address.octets()[0] == 0 {
        Some("of the range 0.0.0.0/8, \"this network\"")
    } else {
        None
    }
}

/// An absolute path.
pub(super) fn path(key: &str, value: &Value<'_>) -> Parsed<PathBuf> {
    let text = string(key, value)?;
    if text.starts_with('/') && !text.contains(char::is_control) {
        Ok(PathBuf::from(text))
    } else {
        Err(wrong_type(key, value, "a path that begins with /"))
    }
}

/// An absolute path of a file.
pub(super) fn file(key: &str, value: &Value<'_>) -> Parsed<PathBuf> {
    let path = path(key, value)?;
    match path.file_name() {
        Some(_) if !path.as_os_str().as_encoded_bytes().ends_with(b"/") => Ok(path),
        _ => Err(wrong_type(key, value, "the path of a file, not of a folder")),
    }
}

/// Which processes are meant: a name, a program from / on, or all arguments.
pub(super) fn process(key: &str, value: &Value<'_>) -> Parsed<ProcessMatch> {
    let mut words = command(key, value)?;
    if words.len() > 1 {
        return Ok(ProcessMatch::Arguments(words));
    }
    let word = words.swap_remove(0);
    if word.starts_with('/') {
        Ok(ProcessMatch::Program(PathBuf::from(word)))
    } else if word.contains('/') {
        Err(wrong_type(key, value, "the name of a process, or its program from / on"))
    } else {
        Ok(ProcessMatch::Name(word))
    }
}

/// A VRRPv2 password, padded with zeros. Messages never hold it.
pub(super) fn password(key: &str, value: &Value<'_>) -> Parsed<[u8; 8]> {
    let fault = |message: String| {
        Problem::at(value.span(), message)
            .expected("a string of 1 to 8 bytes")
            .help("VRRPv2 has room for 8 bytes; keepalived uses the first 8 of a longer one")
    };
    let DeValue::String(text) = value.get_ref() else {
        return Err(fault(format!("`{key}` is no string")));
    };
    if text.contains('\0') {
        return Err(fault(format!("`{key}` has a zero byte")));
    }
    let mut padded = [0; 8];
    match padded.get_mut(..text.len()) {
        Some(room) if !text.is_empty() => room.copy_from_slice(text.as_bytes()),
        _ => return Err(fault(format!("`{key}` has {} bytes", text.len()))),
    }
    Ok(padded)
}

/// A program and its arguments: a string split as a shell splits words, or an array.
pub(super) fn command(key: &str, value: &Value<'_>) -> Parsed<Vec<String>> {
    let words = match value.get_ref() {
        DeValue::String(text) => shlex::split(text).ok_or_else(|| {
            wrong_type(key, value, "words as a shell splits them")
                .help("a quote is not closed, or a backslash is the last character")
        })?,
        DeValue::Array(array) => {
            array.iter().map(|word| string(key, word)).collect::<Parsed<Vec<String>>>()?
        }
        _ => return Err(wrong_type(key, value, "a command: a string, or an array of strings")),
    };
    let Some(program) = words.first().filter(|program| !program.is_empty()) else {
        return Err(
            Problem::at(value.span(), format!("`{key}` is empty")).expected("a program and its arguments")
        );
    };
    if words.iter().any(|word| word.contains('\0')) {
        return Err(Problem::at(value.span(), format!("`{key}` has a zero byte, which no argument can")));
    }
    if program.ends_with('/') {
        return Err(Problem::at(value.span(), format!("`{key}` starts {program:?}, a folder"))
            .expected("a program and its arguments"));
    }
    Ok(words)
}
