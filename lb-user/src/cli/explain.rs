//! `lb explain`: where would this packet go, and why?

use std::{
    net::{IpAddr, SocketAddr},
    process::ExitCode,
};

use super::{ExplainArgs, exit, status::ask};
use crate::{
    api::{ExplainRequest, Request, Response},
    config::Protocol,
};

/// `lb explain`.
pub(super) fn explain(args: &ExplainArgs) -> ExitCode {
    let request = ExplainRequest {
        source: args.src,
        destination: args.dst,
        protocol: args.protocol,
        opening: args.opening,
        interface: args.interface.clone(),
    };
    if let Err(message) = request.check() {
        eprintln!("lb: {message}");
        return ExitCode::from(exit::USAGE);
    }
    ask(&args.socket, &Request::Explain(request), |response| match response {
        Response::Explanation(explanation) if args.json => {
            // Invariant: the explanation came out of JSON, so it goes back in.
            println!("{}", serde_json::to_string_pretty(&explanation).expect("an explanation is JSON"));
        }
        Response::Explanation(explanation) => print!("{explanation}"),
        Response::Status(_) | Response::Done { .. } | Response::Error { .. } => {}
    })
}

/// Reads `ADDRESS:PORT`.
pub(super) fn end(text: &str) -> Result<SocketAddr, String> {
    const EXAMPLE: &str = "write for example 192.0.2.7:40000 or [2001:db8::7]:40000";
    if let Ok(end) = text.parse::<SocketAddr>() {
        return Ok(SocketAddr::new(end.ip().to_canonical(), end.port()));
    }
    let wrong = match parts(text) {
        Err(wrong) => wrong,
        Ok((address, _)) if address.parse::<IpAddr>().is_err() => {
            format!("`{address}` is no IP address (names are not resolved)")
        }
        Ok((_, "")) => format!("the port is missing after character {}", text.chars().count()),
        Ok((_, port)) => {
            let at = text.chars().count() - port.chars().count() + 1;
            format!("`{port}`, at character {at}, is no port from 0 to 65535")
        }
    };
    Err(format!("{wrong}; {EXAMPLE}"))
}

/// Address and port of a text, or why it does not have them.
fn parts(text: &str) -> Result<(&str, &str), String> {
    let no_port =
        |before: &str| format!("a colon and the port are missing after character {}", before.chars().count());
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) =
            rest.split_once(']').ok_or_else(|| "the bracket at character 1 is not closed".to_owned())?;
        let port = port.strip_prefix(':').ok_or_else(|| no_port(&text[..address.len() + 2]))?;
        return Ok((address, port));
    }
    let (address, port) = text.rsplit_once(':').ok_or_else(|| no_port(text))?;
    if address.contains(':') {
        return Err("an IPv6 address stands in brackets before its port".to_owned());
    }
    Ok((address, port))
}

/// Reads the protocol.
pub(super) fn protocol(text: &str) -> Result<Protocol, String> {
    match text {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        _ => Err("write tcp or udp".to_owned()),
    }
}
