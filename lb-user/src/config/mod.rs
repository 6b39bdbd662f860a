//! The configuration: text in, a validated model out.
//!
//! `sources` has the text of one or more files. Three steps follow, each of which goes on after a mistake so that one run shows them all: `toml` reads the syntax,
//! `raw` takes the keys and types out of it, `validate` checks what belongs together and builds the
//! model. Every value keeps its place in the text until then. What only the node can confirm is
//! [`Parsed::check_host`]'s.

mod authorities;
mod host;
mod merge;
mod model;
mod ports;
mod raw;
mod read;
mod report;
mod secrets;
mod sources;
mod text;
mod validate;
mod value;

use std::{fs::File, io, io::Read as _, path::Path, sync::Arc};

pub use host::{HostFacts, HostInterface};
pub use model::*;
pub use ports::Ports;
pub use report::{ConfigError, ConfigErrors, ConfigReport, Related, Severity};

pub(crate) use report::Problem;
pub(crate) use sources::Sources;
pub(crate) use text::{Language, Text};

pub(crate) use read::nearest;

/// A configuration file is refused beyond this size.
pub const MAX_FILE_BYTES: u64 = 10_000_000;

/// A configuration that holds, and what its text says beyond the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The model.
    pub config: Config,
    /// What is allowed but probably not meant; may be empty.
    pub warnings: ConfigErrors,
    text: Arc<Text>,
    spans: host::Spans,
}

impl Parsed {
    /// Compares the configuration with the node: that its interfaces exist, that every VIP lies in a network of its
    /// virtual router's interface, that unicast sources and `local` backends are addresses of this node.
    ///
    /// Errors are as those of parsing, with their place in the text.
    pub fn check_host(&self, facts: &HostFacts) -> Result<(), ConfigErrors> {
        host::check(self, facts)
    }

    /// Reads the files that secrets stand in.
    fn with_secrets(mut self) -> Result<Self, ConfigErrors> {
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        secrets::read(&self.text, &mut self.config, &self.spans, &mut problems, &mut warnings);
        authorities::read(&mut self.config, &self.spans, &mut problems);
        if !problems.is_empty() {
            return Err(ConfigErrors::new(&self.text, Severity::Error, problems));
        }
        self.warnings.extend(ConfigErrors::new(&self.text, Severity::Warning, warnings));
        Ok(self)
    }
}

impl Config {
    /// The model of a configuration's text; `name` stands for the file in errors. Warnings are left out:
    /// [`parse`] has them.
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigErrors> {
        parse(name, text).map(|parsed| parsed.config)
    }
}

/// Reads, parses and validates a configuration file; see [`load_all`].
pub fn load(path: &Path) -> Result<Parsed, ConfigErrors> {
    load_all(&[path])
}

/// Reads, parses and validates a configuration of several files, each of at most [`MAX_FILE_BYTES`], and reads the
/// secrets that stand in files of their own, which [`parse`] leaves there.
///
/// A file may be keepalived's ([`import::is_keepalived`]); it is translated first. The files are one configuration:
/// arrays of tables are joined, in the order of the files, tables are joined key by key, and no key may be there twice.
pub fn load_all(paths: &[impl AsRef<Path>]) -> Result<Parsed, ConfigErrors> {
    let mut sources = Sources::default();
    let mut refused: Option<ConfigErrors> = None;
    for path in paths {
        if let Err(errors) = sources.add_file(path.as_ref()) {
            match &mut refused {
                Some(refused) => refused.extend(errors),
                None => refused = Some(errors),
            }
        }
    }
    match refused {
        Some(errors) => Err(errors),
        None => sources.parse()?.with_secrets(),
    }
}

/// The text of a configuration file, or what is wrong with it.
pub(crate) fn read_text(path: &Path) -> Result<String, ConfigErrors> {
    text_of(&path.display().to_string(), read(path))
}

/// The text that a file's bytes are, or what is wrong with them.
pub(crate) fn text_of(name: &str, bytes: io::Result<Vec<u8>>) -> Result<String, ConfigErrors> {
    let bytes = bytes.map_err(|error| unreadable(name, &error))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let message = format!("larger than {} MB", MAX_FILE_BYTES / 1_000_000);
        let help = "a configuration is text of some kilobytes: is this the right file?";
        return Err(ConfigErrors::unreadable(name, message, Some(help.to_owned())));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let good = String::from_utf8_lossy(&error.as_bytes()[..valid]);
        let place = good.len()..good.len();
        let problem = Problem::at(place, format!("byte 0x{:02x} is not UTF-8", error.as_bytes()[valid]))
            .expected("text in UTF-8")
            .help("convert the file: iconv -t UTF-8");
        ConfigErrors::new(&Arc::new(Text::new(name, &good)), Severity::Error, vec![problem])
    })
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(name: &str, error: &io::Error) -> ConfigErrors {
    let help = match error.kind() {
        io::ErrorKind::NotFound => "check the path; configs/ has examples to start from",
        io::ErrorKind::PermissionDenied => "run as root, or let this user read the file",
        io::ErrorKind::IsADirectory => "name a file in that folder",
        _ => "check the file and the disk it is on",
    };
    ConfigErrors::unreadable(name, format!("cannot be read: {error}"), Some(help.to_owned()))
}

/// Parses and validates a configuration's text; `name` stands for the file in errors.
pub fn parse(name: &str, text: &str) -> Result<Parsed, ConfigErrors> {
    let mut sources = Sources::default();
    sources.add_toml(name, text.to_owned());
    sources.parse()
}
