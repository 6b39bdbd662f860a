//! Tests of the loaded XDP program, in the real kernel.

mod attach;
mod differential;
mod fixtures;
mod fixtures_edges;
mod fixtures_fragments;
mod fixtures_icmp;
mod fixtures_vlan;
mod flows;
mod log;
mod model;
mod namespace;
mod packets;
mod pool;
mod sockets;
mod world;
