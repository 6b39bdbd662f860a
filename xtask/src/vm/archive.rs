//! A cpio archive in the "newc" format, which the kernel unpacks as its first root (its
//! `Documentation/driver-api/early-userspace/buffer-format.rst`).

/// An archive in memory.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

/// File types and permissions, as in `stat.st_mode`.
const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CONSOLE: u32 = 0o020_600;

impl Archive {
    /// Adds a folder; those above it come first.
    pub(super) fn folder(&mut self, path: &str) {
        self.entry(path, FOLDER, (0, 0), &[]);
    }

    /// Adds a file that may be executed.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) {
        self.entry(path, PROGRAM, (0, 0), content);
    }

    /// Adds the console's device file, so that the first program can say what is wrong.
    pub(super) fn console(&mut self, path: &str) {
        self.entry(path, CONSOLE, (5, 1), &[]);
    }

    /// The bytes of the whole.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        self.entries += 1;
        let (links, owner, time, device, check) = (1, 0, 0, 0, 0);
        // The name is counted with the zero that ends it.
        let (size, name_size) = (content.len() as u32, path.len() as u32 + 1);
        self.bytes.extend(b"070701");
        for number in [
            self.entries,
            mode,
            owner,
            owner,
            links,
            time,
            size,
            device,
            device,
            major,
            minor,
            name_size,
            check,
        ] {
            self.bytes.extend(format!("{number:08x}").as_bytes());
        }
        self.bytes.extend(path.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend(content);
        self.align();
    }

    /// Names and contents begin at multiples of four bytes.
    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Path, mode, device, content.
    type Entry = (String, u32, (u32, u32), Vec<u8>);

    /// Reads an archive by the format's description.
    fn read(mut bytes: &[u8]) -> Vec<Entry> {
        let mut entries = Vec::new();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let number = |index: usize| {
                let digits = str::from_utf8(&bytes[6 + 8 * index..14 + 8 * index]).expect("digits");
                u32::from_str_radix(digits, 16).expect("digits")
            };
            let (mode, size, name_size) = (number(1), number(6) as usize, number(11) as usize);
            let device = (number(9), number(10));
            let name_end = (110 + name_size).next_multiple_of(4);
            let name = str::from_utf8(&bytes[110..110 + name_size - 1]).expect("a name").to_owned();
            assert_eq!(bytes[110 + name_size - 1], 0);
            if name == "TRAILER!!!" {
                return entries;
            }
            entries.push((name, mode, device, bytes[name_end..name_end + size].to_vec()));
            bytes = &bytes[(name_end + size).next_multiple_of(4)..];
        }
    }

    #[test]
    fn what_went_in_comes_out() {
        let mut archive = Archive::default();
        archive.folder("dev");
        archive.console("dev/console");
        for length in 0..9 {
            archive.file(&format!("{}f", "n".repeat(length)), &vec![b'x'; length]);
        }
        let entries = read(&archive.finish());
        assert_eq!(entries.len(), 11);
        assert_eq!(entries[0], ("dev".into(), 0o040_755, (0, 0), Vec::new()));
        assert_eq!(entries[1], ("dev/console".into(), 0o020_600, (5, 1), Vec::new()));
        for (length, entry) in entries[2..].iter().enumerate() {
            assert_eq!(entry.3, vec![b'x'; length]);
        }
    }
}
