//! Track scripts: commands whose exit status tells whether this node may own a VIP. [`Runner`] executes them
//! and sends what they said; the control task feeds each result to the script's [`Machine`] and asks
//! [`effects`] what the scripts of a virtual router amount to.

mod command;
mod effects;
mod machine;
mod process;
mod runner;
mod spawner;
mod user;

pub use effects::{Effects, effects};
pub use machine::{Machine, Transition};
pub use runner::{Runner, TrackEvent};
pub use spawner::SAFE_PATH;
