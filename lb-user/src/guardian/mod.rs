//! The guardian: a small process that outlives a daemon that dies without stopping, and gives its VIPs up in its place.
//!
//! * [`Keeper`] is the daemon's side: it starts the process, gives it its orders, and starts another when it dies.
//! * [`run`] is the process: it sleeps until the daemon is dead; then it leaves in the daemon's place as
//!   [`handover`] decides. [`survival`] is how it sees to it that it lives that long.
//! * [`presence`] is how a new daemon waits for the guardian of its predecessor.

mod handover;
mod keeper;
mod leave;
mod orders;
mod presence;
mod process;
mod survival;

pub(crate) use keeper::Keeper;
pub use orders::RouterOrders;
pub(crate) use presence::Predecessor;
pub use process::{GuardianError, run};
