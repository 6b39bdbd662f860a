//! `lb explain`: where would this packet go, and why?

use std::{net::SocketAddr, process::ExitCode};

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
    let wrong = match (text.starts_with('['), text.rsplit_once(':')) {
        (false, Some((address, _))) if address.contains(':') => {
            "an IPv6 address stands in brackets before its port".to_owned()
        }
        (_, Some((address, port))) => {
            let at = address.chars().count();
            let bare = address.trim_start_matches('[').trim_end_matches(']');
            if bare.parse::<std::net::IpAddr>().is_err() || address.starts_with('[') != address.ends_with(']')
            {
                format!("`{address}`, at character 1, is no IP address (names are not resolved)")
            } else if port.is_empty() {
                format!("the port after the colon at character {} is missing", at + 1)
            } else {
                format!("`{port}`, at character {}, is no port from 0 to 65535", at + 2)
            }
        }
        (_, None) => format!("the port is missing after character {}", text.chars().count()),
    };
    Err(format!("{wrong}; {EXAMPLE}"))
}

/// Reads the protocol.
pub(super) fn protocol(text: &str) -> Result<Protocol, String> {
    match text {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        _ => Err("write tcp or udp".to_owned()),
    }
}
