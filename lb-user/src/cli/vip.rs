//! `lb vip release` and `lb vip claim`.

use std::process::ExitCode;

use super::{VipCommand, status::ask};
use crate::api::{Request, Response};

pub(super) fn vip(command: &VipCommand) -> ExitCode {
    let (socket, request) = match command {
        VipCommand::Release(args) => (&args.socket, Request::Release { router: args.router.clone() }),
        VipCommand::Claim(args) => (&args.socket, Request::Claim { router: args.router.clone() }),
    };
    ask(socket, &request, |response| {
        if let Response::Done { message } = response {
            println!("{message}");
        }
    })
}
