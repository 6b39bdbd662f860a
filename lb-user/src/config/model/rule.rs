//! Policy rules: which packets are sent by which routing table.

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A policy rule of the kernel's. What is not given matches everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rule {
    /// Whether it is about IPv6.
    pub is_ipv6: bool,
    /// The source of the packets.
    pub from: Option<IpNet>,
    /// Their destination.
    pub to: Option<IpNet>,
    /// The interface they came in by.
    pub iif: Option<String>,
    /// The interface that the socket which sends them is bound to.
    pub oif: Option<String>,
    /// Their firewall mark, and which of its bits count.
    pub mark: Option<(u32, u32)>,
    /// The lowest is looked at first, 1–32,765; those of `main` and `default` have 32,766 and 32,767.
    pub priority: u32,
    /// The routing table.
    pub table: u32,
}

/// In the words of `ip rule`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from {
            Some(from) => write!(f, "from {from}")?,
            None => f.write_str("from all")?,
        }
        if let Some(to) = self.to {
            write!(f, " to {to}")?;
        }
        match self.mark {
            Some((mark, u32::MAX)) => write!(f, " fwmark {mark:#x}")?,
            Some((mark, mask)) => write!(f, " fwmark {mark:#x}/{mask:#x}")?,
            None => {}
        }
        if let Some(iif) = &self.iif {
            write!(f, " iif {iif}")?;
        }
        if let Some(oif) = &self.oif {
            write!(f, " oif {oif}")?;
        }
        write!(f, " lookup {} priority {}", self.table, self.priority)?;
        f.write_str(if self.is_ipv6 { " (IPv6)" } else { "" })
    }
}
