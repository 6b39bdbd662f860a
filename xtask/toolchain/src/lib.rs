//! Finds the tools that build the XDP program, and builds it.
