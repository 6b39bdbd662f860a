//! Library side of xtask.

pub mod lab;
pub mod play;
