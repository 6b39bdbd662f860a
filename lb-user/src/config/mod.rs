//! The configuration: text in, a validated model out.
//!
//! Three steps, each of which goes on after a mistake so that one run shows them all: `toml` reads the syntax,
//! `raw` takes the keys and types out of it, `validate` checks what belongs together and builds the
//! model. Every value keeps its place in the text until then. What only the node can confirm is
//! [`Parsed::check_host`]'s.

mod host;
mod model;
mod ports;
mod raw;
mod read;
mod report;
mod secrets;
mod text;
mod validate;
mod value;

use std::{fs::File, io, io::Read as _, path::Path, sync::Arc};

use toml::de::DeTable;

pub use host::{HostFacts, HostInterface};
pub use model::*;
pub use ports::Ports;
pub use report::{ConfigError, ConfigErrors, ConfigReport, Related, Severity};

use report::Problem;
use text::Text;
use validate::{Findings, validate};

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

    /// Reads the files that secrets stand in; `path` is the configuration's own.
    fn with_secrets(mut self, path: &Path) -> Result<Self, ConfigErrors> {
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        secrets::read(path, &mut self.config, &self.spans, &mut problems, &mut warnings);
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

/// Reads, parses and validates a configuration file of at most [`MAX_FILE_BYTES`], and reads the secrets that stand in
/// files of their own, which [`parse`] leaves there.
pub fn load(path: &Path) -> Result<Parsed, ConfigErrors> {
    let name = path.display().to_string();
    let bytes = read(path).map_err(|error| unreadable(&name, &error))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let message = format!("larger than {} MB", MAX_FILE_BYTES / 1_000_000);
        let help = "a configuration is text of some kilobytes: is this the right file?";
        return Err(ConfigErrors::unreadable(&name, message, Some(help.to_owned())));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse(&name, text)?.with_secrets(path),
        Err(error) => {
            let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let place = good.len()..good.len();
            let problem =
                Problem::at(place, format!("byte 0x{:02x} is not UTF-8", bytes[error.valid_up_to()]))
                    .expected("text in UTF-8")
                    .help("convert the file: iconv -t UTF-8");
            Err(ConfigErrors::new(&Arc::new(Text::new(&name, &good)), Severity::Error, vec![problem]))
        }
    }
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
    let source = Arc::new(Text::new(name, text));
    let refuse = |problems| ConfigErrors::new(&source, Severity::Error, problems);

    let (table, syntax) = DeTable::parse_recoverable(text);
    if !syntax.is_empty() {
        // What the parser makes of the rest is a guess, so nothing is said about its meaning.
        return Err(refuse(read::syntax_problems(&syntax, text)));
    }
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    let raw = raw::read(&table, &mut problems);
    let (config, spans) = validate(&raw, &mut Findings { problems: &mut problems, warnings: &mut warnings });
    if !problems.is_empty() {
        return Err(refuse(problems));
    }
    let warnings = ConfigErrors::new(&source, Severity::Warning, warnings);
    Ok(Parsed { config, warnings, text: source, spans })
}
