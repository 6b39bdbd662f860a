//! The control plane of `lb`: see `ARCHITECTURE.md` for the shape of the house.

pub mod api;
pub mod balance;
#[cfg(feature = "bench")]
pub mod bench;
pub mod bfd;
pub mod cli;
pub mod config;
pub mod control;
pub mod dataplane;
pub mod guardian;
pub mod health;
pub mod import;
mod logging;
pub mod net;
mod node_lock;
pub mod notify;
mod pidfd;
pub mod protocol;
mod rights;
pub mod time;
pub mod track;
pub mod vrrp;
