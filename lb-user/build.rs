//! Placeholder until the toolchain crate builds the XDP program.
fn main() {}
