//! The XDP program of lb.
