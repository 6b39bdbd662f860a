//! The protocol thread: it owns the virtual routers' state machines, their sockets and the leases, so that nothing the
//! control task is busy with (programs to load, a thousand services to apply) makes an advert late.
//!
//! * [`messages`] is all that passes between it and the control task: commands one way, events the other.
//! * [`engine`] is what it does; [`router`] and [`channel`] are what it has. None of them waits or logs.
//! * [`realtime`] asks for what keeps it punctual.
//! * [`thread`] runs the engine, and has the control task's end. [`queue`] and [`timer`] are what it waits for.

mod channel;
mod engine;
mod messages;
mod queue;
mod realtime;
mod router;
mod thread;
mod timer;

pub use channel::{Channel, Wire, place};
pub use messages::{Command, Event, FaultCause, OwnerReason, Plan, Report, RouterKey, RouterReport, Trouble};
pub use realtime::{Grant, PRIORITY, Scheduling};
pub use thread::{Link, start};
