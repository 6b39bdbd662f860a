//! Memory, as the kernel accounts for it.

use std::{fs, io};

/// Of this process, in MiB.
pub(super) fn resident() -> io::Result<u64> {
    let kibibytes = number(&fs::read_to_string("/proc/self/status")?, "VmRSS:").unwrap_or(0);
    Ok(kibibytes >> 10)
}

/// Of the maps this process has open, in MiB.
pub(super) fn open_maps() -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        // Other threads' descriptors, and that of the folder itself, come and go.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        if text.contains("map_type:") {
            sum += number(&text, "memlock:").unwrap_or(0);
        }
    }
    Ok(sum >> 20)
}

/// The number behind a label in the kernel's text.
pub(crate) fn number(text: &str, label: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(label))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_their_labels() {
        assert_eq!(number("map_type:\t2\nmemlock:\t4096\n", "memlock:"), Some(4_096));
        assert_eq!(number("VmRSS:\t   12 kB\n", "VmRSS:"), Some(12));
        assert_eq!(number("", "VmRSS:"), None);
    }
}
