//! The daemon's side of the control socket.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tracing::{debug, warn};

use super::{Request, Response, SOCKET_NAME};

/// No request is longer.
const MAX_REQUEST_BYTES: u64 = 4_096;
/// How long a client may dawdle over its request.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// A request on its way to the control task.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Response>,
}

/// The folder or the socket cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}; lb needs a writable runtime folder: run as root or set daemon.runtime_dir")]
pub struct ServerError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// A listening control socket; dropping it stops listening and removes the file.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Server {
    /// Listens in `runtime_dir` and sends what is asked to `calls`. The caller has made sure that no other
    /// daemon uses the folder: a socket left by a dead one is replaced.
    pub fn start(runtime_dir: &Path, calls: mpsc::Sender<Call>) -> Result<Self, ServerError> {
        let path = runtime_dir.join(SOCKET_NAME);
        let listener =
            listen(runtime_dir, &path).map_err(|source| ServerError { path: path.clone(), source })?;
        let task = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => drop(tokio::spawn(serve(stream, calls.clone()))),
                    Err(error) => {
                        // Out of descriptors, most likely; the pause keeps the log readable.
                        warn!(%error, "control socket: accept failed");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        });
        Ok(Self { path, task })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        if let Err(error) = fs::remove_file(&self.path) {
            warn!(path = %self.path.display(), %error, "control socket: not removed");
        }
    }
}

fn listen(runtime_dir: &Path, path: &Path) -> io::Result<UnixListener> {
    fs::create_dir_all(runtime_dir)?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn serve(stream: UnixStream, calls: mpsc::Sender<Call>) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader.take(MAX_REQUEST_BYTES));
    let mut line = String::new();
    let response = match timeout(READ_TIMEOUT, reader.read_line(&mut line)).await {
        Ok(Ok(0)) | Err(_) => return,
        Ok(Ok(_)) => answer(&line, &calls).await,
        Ok(Err(error)) => Response::Error { message: format!("unreadable request: {error}") },
    };
    let Ok(mut text) = serde_json::to_vec(&response) else { return };
    text.push(b'\n');
    if let Err(error) = writer.write_all(&text).await {
        debug!(%error, "control socket: client gone before its answer");
    }
}

async fn answer(line: &str, calls: &mpsc::Sender<Call>) -> Response {
    let request = match serde_json::from_str(line) {
        Ok(request) => request,
        Err(error) => return Response::Error { message: format!("not a request: {error}") },
    };
    let (answer, receiver) = oneshot::channel();
    if calls.send(Call { request, answer }).await.is_err() {
        return Response::Error { message: "lb is stopping".to_owned() };
    }
    receiver.await.unwrap_or_else(|_| Response::Error { message: "lb is stopping".to_owned() })
}
