//! Library side of xtask.
