//! Secrets in files: read when a configuration is loaded, and never shown.

use std::{
    fs::File,
    io::{self, Read as _},
    ops::Range,
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use super::{
    host::Spans,
    model::{Config, Secret},
    report::Problem,
    text::Text,
};

/// Twice as long as the longest secret in hexadecimal digits, and room for `hex:` and a line feed.
const MOST_BYTES: u64 = 256;
/// The permissions of others than the owner of a file and its group.
const OTHERS: u32 = 0o007;

/// Reads the files that keys stand in; notes what is wrong with them, and warns where everybody on the machine may read
/// them or the configuration's file in `text`, if keys stand in there.
pub(super) fn read(
    text: &Text,
    config: &mut Config,
    spans: &Spans,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) {
    for (router, spans) in config.virtual_routers.iter_mut().zip(&spans.routers) {
        let keys = router.authentication.iter_mut().flat_map(|authentication| &mut authentication.keys);
        for (key, span) in keys.zip(&spans.keys) {
            let path = match &key.secret {
                Secret::File(path) => path.clone(),
                Secret::Known(_) => {
                    let configuration = Path::new(text.name_at(span.start));
                    let mode = configuration.metadata().map(|metadata| metadata.permissions().mode());
                    warnings.extend(mode.ok().and_then(|mode| too_open(configuration, mode, span)));
                    continue;
                }
            };
            let unusable = |what: String| {
                Problem::at(span.clone(), format!("{} {what}", path.display()))
                    .help("make one: echo hex:$(openssl rand -hex 32), and give it to all nodes")
            };
            match contents(&path) {
                Err(error) => problems.push(unusable(format!("cannot be read: {error}"))),
                Ok((text, mode)) => {
                    warnings.extend(too_open(&path, mode, span));
                    match Secret::parse(text.trim_ascii_end()) {
                        Ok(secret) => key.secret = secret,
                        Err(expected) => {
                            let problem = unusable("holds no secret to sign with".to_owned());
                            problems.push(problem.expected(expected));
                        }
                    }
                }
            }
        }
    }
}

fn too_open(path: &Path, mode: u32, span: &Range<usize>) -> Option<Problem> {
    let message = format!("everybody on this machine may read the secret in {}", path.display());
    (mode & OTHERS != 0)
        .then(|| Problem::at(span.clone(), message).help(format!("chmod o= {}", path.display())))
}

/// The beginning of a file and its permissions.
fn contents(path: &Path) -> io::Result<(String, u32)> {
    let file = File::open(path)?;
    let mut text = String::new();
    let mode = file.metadata()?.permissions().mode();
    file.take(MOST_BYTES).read_to_string(&mut text)?;
    Ok((text, mode))
}
