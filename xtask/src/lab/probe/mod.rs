//! What a client sees: probes that run in this process, inside a node's network namespace.

pub mod advert;
pub mod arp;
pub mod download;
pub mod echo;
pub mod flood;
pub mod http;
pub mod live;
pub mod load;
mod packet;
pub mod standing;
pub mod udp;
