//! Is a backend fit for traffic? [`Checker`] probes (TCP, HTTP, TLS, a command; then the VIP where packets for it go to
//! the backend's MAC) and sends what it saw; the control task feeds each result to the backend's [`Machine`], which
//! says when the backend's state changes.

mod checker;
mod error;
mod machine;
mod probe;
mod rise_fall;
mod schedule;
mod tls;
mod vip_path;

pub use checker::{CheckId, Checker, HealthEvent, Target};
pub use error::{ProbeError, ProbeStage};
pub use machine::{Counts, Machine, State, Transition};
pub use probe::probe_target;
pub use rise_fall::{Level, RiseFall};
pub use schedule::{Schedule, first_delay};
pub use vip_path::VipPath;
