//! The control task: one owner of all state. Events go in, a desired state comes out, one reconciler brings it
//! about. Nothing else writes a map, an address or a lease.
//!
//! * [`controller`] is the task: its loop, and what each event means; [`start`] builds it with its edges.
//! * `protocol` is its part in VRRP, `apply` the reconciler, `reload` and `stop` what their names say.
//! * [`desired`] is the pure function from configuration and knowledge to what should be; [`forwarding`] and
//!   [`addresses`] hold what is applied. [`flows`] closes and settles what a change of a ring has left open.

mod addresses;
mod apply;
mod channels;
mod controller;
mod desired;
mod detectors;
mod explain;
mod flows;
mod forwarding;
mod group;
mod guardian;
mod health;
mod identifiers;
mod notices;
mod orders;
mod protocol;
mod reload;
mod rings;
mod router;
mod routes;
mod rules;
#[cfg(feature = "bench")]
pub(crate) mod scale;
mod start;
mod status;
mod stop;
mod trackers;
mod virtual_mac;
mod witness;
mod world;

#[cfg(test)]
mod tests;

pub use controller::{Signal, StartError};
pub use start::{RunError, host_facts, run};
