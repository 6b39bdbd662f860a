//! Internet checksums (RFC 1071), updated in place (RFC 1624).
//!
//! Sums are one's complement sums of 16-bit words **as they stand in the packet**, kept in 64 bits and folded
//! when needed; such a sum is right whatever the byte order of the machine. A 32-bit word counts as its two
//! halves, because 2^16 ≡ 1.

/// Folds a sum to 16 bits; only the sum of nothing but zeros folds to 0.
#[inline(always)]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The same of a sum below 2^36: of a pseudo header, for instance, or of eight 32-bit words.
#[inline(always)]
pub const fn fold_short(sum: u64) -> u16 {
    // Below 2^20 + 2^16, then below 2^16 + 2^5.
    let sum = (sum & 0xffff) + (sum >> 16);
    fold_few(sum as u32)
}

/// The same of a sum of at most 2^15 words of 16 bits.
#[inline(always)]
pub const fn fold_few(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    // What the second fold carries is less than what is left below.
    (sum + (sum >> 16)) as u16
}

/// The sum of a TCP or UDP pseudo header (RFC 9293 section 3.1, RFC 8200 section 8.1) over addresses with the sum
/// `addresses`; `length` counts the transport header and its
/// payload.
#[inline(always)]
pub const fn pseudo_header(addresses: u64, protocol: u8, length: u16) -> u64 {
    addresses + (protocol as u16).to_be() as u64 + length.to_be() as u64
}

/// The checksum after the words summed up in `old` became those summed up in `new` (RFC 1624, equation 3).
#[inline(always)]
pub const fn replace(checksum: u16, old: u64, new: u64) -> u16 {
    // The complement of a sum is taken of its folded form: 16 bits, like the words it stands for.
    !fold(!checksum as u64 + !fold(old) as u64 + new)
}

/// The checksum of words with the sum `sum`.
#[inline(always)]
pub const fn finish(sum: u64) -> u16 {
    !fold(sum)
}

/// UDP says "no checksum" by 0 and so sends a sum of 0 as its other form (RFC 768).
#[inline(always)]
pub const fn udp(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> u64 {
        bytes.chunks(2).map(|c| u64::from(u16::from_ne_bytes([c[0], *c.get(1).unwrap_or(&0)]))).sum()
    }

    #[test]
    fn rfc_1071_example() {
        // RFC 1071 section 3: the sum of these bytes is ddf2 in network order.
        assert_eq!(fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])).to_be(), 0xddf2);
    }

    #[test]
    fn replacing_words_equals_summing_anew() {
        let mut bytes: Vec<u8> = (0..40_u8).map(|n| n.wrapping_mul(37)).collect();
        for round in 0..2_000_u32 {
            let before = finish(sum(&bytes));
            let at = (round as usize * 4) % 40;
            let new = round.wrapping_mul(0x9e37_79b9).to_ne_bytes();
            let old_words = sum(&bytes[at..at + 4]);
            bytes[at..at + 4].copy_from_slice(&new);
            assert_eq!(replace(before, old_words, sum(&new)), finish(sum(&bytes)), "round {round}");
        }
    }

    #[test]
    fn fold_takes_the_largest_sum() {
        assert_eq!(fold(u64::MAX), 0xffff);
        assert_eq!(fold(0), 0);
    }

    #[test]
    fn shorter_folds_agree_where_they_may_be_used() {
        for step in 0..100_000_u64 {
            let sum = step.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            assert_eq!(fold_short(sum >> 28), fold(sum >> 28), "{:#x}", sum >> 28);
            assert_eq!(fold_few((sum >> 33) as u32), fold(sum >> 33), "{:#x}", sum >> 33);
        }
        for sum in [0, 1, 0xffff, 0x1_0000, 0x1_fffe, 0x1_ffff, (1 << 31) - 1] {
            assert_eq!((fold_short(sum), fold_few(sum as u32)), (fold(sum), fold(sum)), "{sum:#x}");
        }
        assert_eq!(fold_short((1 << 36) - 1), fold((1 << 36) - 1));
    }
}
