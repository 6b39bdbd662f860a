//! What decides whether this node may own a VIP, beside the protocol: scripts, processes, files, interfaces and the health
//! of services.
//!
//! [`Runner`] executes scripts and sends what they said, which the control task feeds to each script's [`Machine`];
//! [`Watcher`] follows processes and files. [`effects`] says what all that a virtual router tracks amounts to.

mod command;
mod effects;
mod files;
mod machine;
mod presence;
mod process;
mod processes;
mod runner;
mod spawner;
mod user;
mod watcher;
mod witness;

pub(crate) use command::{Leftover, Outcome, lasts_until_due, run_once};
pub use effects::{Effect, Effects, Reading, Value, effects};
pub use machine::{Machine, Transition};
pub use runner::{Runner, TrackEvent};
pub use spawner::SAFE_PATH;
pub(crate) use spawner::Spawner;
pub use watcher::{WatchEvent, Watcher};
pub use witness::{Witness, WitnessEvent, Witnesses};
