//! The control plane of `lb`: see `ARCHITECTURE.md` for the shape of the house.

pub mod balance;
pub mod config;
pub mod dataplane;
pub mod health;
pub mod net;
pub mod time;
pub mod track;
pub mod vrrp;
