//! What makes adverts believable.

use std::{fmt, ops::RangeInclusive, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// A VRRPv2 simple text password (RFC 2338 §10.2): 1–8 bytes, padded with zeros. Never printed.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Password(pub [u8; 8]);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// Keys that adverts are signed with, and how strictly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authentication {
    /// Keys that adverts may be signed with; never empty, and their identifiers differ.
    pub keys: Vec<Key>,
    /// The identifier of the key this node signs with.
    pub send: u8,
    /// What becomes of adverts that are not signed.
    pub mode: AuthenticationMode,
    /// How far the clock of a node that has not been heard yet may be from this node's. Default 10 s.
    pub window: Duration,
}

/// What becomes of adverts that are not signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthenticationMode {
    /// They count for nothing.
    #[default]
    Enforce,
    /// They are believed and counted: for the time in which nodes get their keys, one after the other.
    Permissive,
}

/// A key of several nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// What adverts call it, 1–255.
    pub id: u8,
    /// What nobody else knows.
    pub secret: Secret,
}

/// A secret of [`Secret::LENGTH`] bytes. Never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Secret {
    /// Its bytes.
    Known(Vec<u8>),
    /// The file it stands in, which [`load`](crate::config::load) reads.
    File(PathBuf),
}

impl Secret {
    /// How many bytes a secret may have. Shorter ones can be guessed, longer ones do not fit one block of SHA-256.
    pub const LENGTH: RangeInclusive<usize> = 16..=64;
    /// What a secret in hexadecimal digits begins with.
    const HEX: &str = "hex:";

    /// A secret as it is written: its bytes, or `hex:` and their hexadecimal digits. `Err` says what it must be, and
    /// holds nothing of it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let bytes = match text.strip_prefix(Self::HEX) {
            Some(digits) => unhex(digits).ok_or("an even number of hexadecimal digits after `hex:`")?,
            None => text.as_bytes().to_vec(),
        };
        if Self::LENGTH.contains(&bytes.len()) { Ok(Self::Known(bytes)) } else { Err("16 to 64 bytes") }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(_) => f.write_str("Secret(…)"),
            Self::File(path) => write!(f, "Secret(in {})", path.display()),
        }
    }
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    if rest.is_empty() { bytes } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_text_or_hexadecimal_digits_and_neither_short_nor_long() {
        let known = |bytes: &[u8]| Ok(Secret::Known(bytes.to_vec()));
        assert_eq!(Secret::parse("sixteen bytes ok"), known(b"sixteen bytes ok"));
        assert_eq!(Secret::parse(&format!("hex:{}", "0fA1".repeat(8))), known(&[0x0f, 0xa1].repeat(8)));
        for wrong in
            ["", "fifteen bytes..", &"a".repeat(65), "hex:00", "hex:+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1"]
        {
            assert!(Secret::parse(wrong).is_err(), "{wrong}");
        }
        for odd in ["hex:0", "hex:zz", &format!("hex:{}f", "00".repeat(16))] {
            assert_eq!(Secret::parse(odd), Err("an even number of hexadecimal digits after `hex:`"));
        }
    }

    #[test]
    fn secrets_are_never_printed() {
        let secret = Secret::parse("open sesame, please").expect("a secret");
        assert_eq!(format!("{:?}", Key { id: 1, secret }), "Key { id: 1, secret: Secret(…) }");
    }
}
