//! Is a backend fit for traffic? [`Checker`] probes (TCP, HTTP) and sends what it saw; the control task feeds
//! each result to the backend's [`Machine`], which says when the backend's state changes.

mod checker;
mod error;
mod machine;
mod probe;
mod rise_fall;
mod schedule;

pub use checker::{CheckId, Checker, HealthEvent, Target};
pub use error::{ProbeError, ProbeStage};
pub use machine::{Counts, Machine, State, Transition};
pub use probe::probe;
pub use rise_fall::{Level, RiseFall};
pub use schedule::{Schedule, first_delay};
