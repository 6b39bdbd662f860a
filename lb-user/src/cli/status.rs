//! `lb status` and `lb reload`: questions to a running daemon.

use std::process::ExitCode;

use super::{SocketArgs, StatusArgs, exit};
use crate::api::{self, Request, Response, SOCKET_NAME};

/// `lb status`.
pub(super) fn status(args: &StatusArgs) -> ExitCode {
    ask(&args.socket, &Request::Status, |response| match response {
        Response::Status(status) if args.json => {
            // Invariant: the status came out of JSON, so it goes back in.
            println!("{}", serde_json::to_string_pretty(&status).expect("a status is JSON"));
        }
        Response::Status(status) => print!("{status}"),
        Response::Done { message } => println!("{message}"),
        Response::Explanation(_) | Response::Error { .. } => {}
    })
}

/// `lb reload`.
pub(super) fn reload(args: &SocketArgs) -> ExitCode {
    ask(args, &Request::Reload, |response| {
        if let Response::Done { message } = response {
            println!("{message}");
        }
    })
}

/// Asks the daemon and shows its answer, or says why there is none.
pub(super) fn ask(socket: &SocketArgs, request: &Request, show: impl Fn(&Response)) -> ExitCode {
    match api::request(&socket.runtime_dir.join(SOCKET_NAME), request) {
        Ok(Response::Error { message }) => {
            eprintln!("lb: {message}");
            ExitCode::from(exit::FAILURE)
        }
        Ok(response) => {
            show(&response);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("lb: {error}");
            ExitCode::from(exit::FAILURE)
        }
    }
}
