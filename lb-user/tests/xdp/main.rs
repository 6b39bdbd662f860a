//! Tests of the loaded XDP program, in the real kernel.

mod attach;
mod concurrent;
mod differential;
mod explain;
mod fixtures;
mod fixtures_edges;
mod fixtures_faults;
mod fixtures_fragments;
mod fixtures_icmp;
mod fixtures_modes;
mod fixtures_strange;
mod fixtures_vlan;
mod flows;
mod icmp;
mod log;
mod model;
mod namespace;
mod packets;
mod pool;
mod sizes;
mod sockets;
mod world;
