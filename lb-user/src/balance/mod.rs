//! Weights → ring. Sans-IO and deterministic: every node with the same members builds the same ring.

mod fill;
mod hash;
mod quota;
mod ring;
mod transition;

pub use hash::stable_hash;
pub use ring::{Member, MemberKey, NO_MEMBER, Ring};
pub use transition::Slots;
