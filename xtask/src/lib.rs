//! What `cargo xtask` is made of. `main.rs` reads the command line, one module carries out each command.

pub mod bench;
pub mod docker;
pub mod doctor;
mod error;
pub mod lab;
pub mod lint;
pub mod play;
pub mod privilege;
pub mod process;
pub mod progress;
pub mod run;
pub mod setup;
pub mod test;
pub mod tools;
pub mod vm;
pub mod workspace;

pub use error::Error;
