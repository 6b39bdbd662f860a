//! The ports of a service.

use std::fmt;

/// The ports of a service. Where services of one VIP and protocol overlap, a single port goes before a range, and a
/// range before [`Any`](Self::Any).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ports {
    /// One port, never 0.
    One(u16),
    /// From the first to the last, both included; the first is not 0 and below the last. Ranges never overlap.
    Range(u16, u16),
    /// Every port of the VIP.
    Any,
}

impl Ports {
    /// The port, if there is only one.
    pub const fn one(self) -> Option<u16> {
        match self {
            Self::One(port) => Some(port),
            Self::Range(..) | Self::Any => None,
        }
    }

    /// The first and the last port.
    pub const fn bounds(self) -> (u16, u16) {
        match self {
            Self::One(port) => (port, port),
            Self::Range(first, last) => (first, last),
            Self::Any => (0, u16::MAX),
        }
    }

    /// The ports as binary prefixes (first port, bits that are compared), in ascending order: the fewest that cover
    /// them all and no others. At most 30.
    pub fn prefixes(self) -> Vec<(u16, u8)> {
        let (first, last) = self.bounds();
        let (mut next, end) = (u32::from(first), u32::from(last) + 1);
        let mut prefixes = Vec::new();
        while next < end {
            // The largest block that begins here and does not go beyond the end.
            let free_bits = next.trailing_zeros().min((end - next).ilog2());
            prefixes.push((next as u16, 16_u32.saturating_sub(free_bits) as u8));
            next += 1 << free_bits.min(16);
        }
        prefixes
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(port) => port.fmt(f),
            Self::Range(first, last) => write!(f, "{first}-{last}"),
            Self::Any => f.write_str("any"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prefixes_of_ranges_one_writes() {
        for (ports, prefixes) in [
            (Ports::Any, vec![(0, 0)]),
            (Ports::One(80), vec![(80, 16)]),
            (Ports::Range(8000, 8099), vec![(8000, 10), (8064, 11), (8096, 14)]),
            (Ports::Range(1, 3), vec![(1, 16), (2, 15)]),
            (Ports::Range(65_534, 65_535), vec![(65_534, 15)]),
        ] {
            assert_eq!(ports.prefixes(), prefixes, "{ports}");
        }
        assert_eq!(Ports::Range(1, 65_534).prefixes().len(), 30, "the worst there is");
    }

    proptest! {
        #[test]
        fn prefixes_cover_the_range_once_and_nothing_else(first in 1..=u16::MAX, last in 1..=u16::MAX) {
            let (first, last) = (first.min(last), first.max(last));
            prop_assume!(first < last);
            let prefixes = Ports::Range(first, last).prefixes();
            prop_assert!(prefixes.len() <= 30);
            let mut next = u32::from(first);
            for (port, bits) in prefixes {
                let length = 1_u32 << (16 - bits);
                prop_assert_eq!(u32::from(port), next);
                prop_assert_eq!(u32::from(port) % length, 0, "aligned");
                next += length;
            }
            prop_assert_eq!(next, u32::from(last) + 1);
        }
    }
}
