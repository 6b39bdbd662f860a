//! The configuration: text in, a validated model out.

mod model;

pub use model::*;
