//! The command line's side of the control socket.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Request, Response};

/// How long the daemon may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "no lb answers at {path} ({source}); is it running? Start it with `lb run --config FILE`, or name its folder with --runtime-dir"
    )]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// The socket is not ours to use.
    #[error("{path}: permission denied; run as the user that lb runs as, usually root")]
    Denied {
        /// The socket.
        path: PathBuf,
    },
    /// The daemon stopped talking.
    #[error("{path}: lb does not answer: {source}; it may be frozen or stopping")]
    Silent {
        /// The socket.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// The daemon talks another dialect.
    #[error("{path}: unreadable answer: {source}; are the command and the daemon of one version?")]
    Unreadable {
        /// The socket.
        path: PathBuf,
        /// What does not fit.
        #[source]
        source: serde_json::Error,
    },
}

/// Asks the daemon behind the socket at `path`.
pub fn request(path: &Path, request: &Request) -> Result<Response, ClientError> {
    let stream = UnixStream::connect(path).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => ClientError::Denied { path: path.to_owned() },
        _ => ClientError::NotRunning { path: path.to_owned(), source },
    })?;
    let line =
        exchange(stream, request).map_err(|source| ClientError::Silent { path: path.to_owned(), source })?;
    serde_json::from_str(&line).map_err(|source| ClientError::Unreadable { path: path.to_owned(), source })
}

fn exchange(mut stream: UnixStream, request: &Request) -> io::Result<String> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    if BufReader::new(stream).read_line(&mut answer)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}
