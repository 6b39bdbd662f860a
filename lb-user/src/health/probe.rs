//! One probe of one backend.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    time::Duration,
};

use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request, StatusCode, Version,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{CONNECTION, HOST, HeaderValue, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use md5::{Digest as _, Md5};
use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpSocket, TcpStream},
    time::Instant,
};
use tokio_rustls::TlsConnector;

use super::{
    ProbeError, ProbeStage, Target, VipPath,
    error::{from_io, words},
    tls, vip_path,
};
use crate::{
    config::{CheckKind, HttpCheck},
    track::{Leftover, Outcome, Spawner, run_once},
};

/// What a response header may take; more is an error.
const MAX_HEADER: usize = 16 * 1024;
/// What a body that is compared may take.
const MAX_BODY: usize = 10_000_000;

/// Probes a backend once: its check, and when that passes, whether it takes what is sent to the VIP. Both
/// together have the check's timeout.
pub async fn probe_target(target: &Target) -> Result<(), ProbeError> {
    let spawner = Spawner::new().map_err(|error| ProbeError::Socket(words(&error)))?;
    Prober::new(target.clone(), spawner).probe().await
}

/// Probes a backend again and again.
pub(super) struct Prober {
    target: Target,
    spawner: Spawner,
    tls: Option<Result<TlsConnector, ProbeError>>,
    /// A command that was killed and may not have ended.
    leftover: Option<Leftover>,
}

impl Prober {
    pub(super) fn new(target: Target, spawner: Spawner) -> Self {
        let tls = match &target.check.kind {
            CheckKind::Http(HttpCheck { tls: Some(tls), .. }) => Some(tls::connector(tls)),
            _ => None,
        };
        Self { target, spawner, tls, leftover: None }
    }

    /// Probes once.
    ///
    /// A TCP check wants a connection, an HTTP check the header of a response with an accepted status, a command an
    /// accepted exit status; redirects are a status like any other, bodies are read only to be compared.
    pub(super) async fn probe(&mut self) -> Result<(), ProbeError> {
        let deadline = Deadline::new(self.target.check.timeout);
        self.check_passes(&deadline).await?;
        let target = &self.target;
        let (VipPath::Resolved { interface, mac }, SocketAddr::V4(vip), IpAddr::V4(backend)) =
            (target.vip_path, target.vip, target.address)
        else {
            return if target.vip_path == VipPath::Unresolved { Err(ProbeError::Unresolved) } else { Ok(()) };
        };
        let asked = vip_path::ask(interface, mac, vip, backend, target.source);
        deadline.limit(ProbeStage::Connecting, asked).await.map_err(|error| match error {
            ProbeError::Timeout { .. } => ProbeError::VipSilent { vip, backend },
            error => error,
        })
    }

    /// The command that the last probe had to kill: the next one must not start before it is gone.
    pub(super) fn leftover(&mut self) -> Option<Leftover> {
        self.leftover.take()
    }

    async fn check_passes(&mut self, deadline: &Deadline) -> Result<(), ProbeError> {
        let Target { check, source, vip, .. } = &self.target;
        let endpoint = self.target.endpoint();
        if let CheckKind::Command(command) = &check.kind {
            let words = command.words(endpoint, vip.ip());
            let outcome = run_once(&self.spawner, &words, command.user.as_deref(), check.timeout).await;
            return match outcome {
                Outcome::Ended { code: Some(code), .. } if is_in(&command.exits, code) => Ok(()),
                Outcome::Ended { detail, .. } => Err(ProbeError::Command(detail)),
                Outcome::TimedOut { detail, leftover } => {
                    self.leftover = Some(leftover);
                    Err(ProbeError::Command(detail))
                }
                Outcome::Stalled { stood_still, leftover } => {
                    self.leftover = Some(leftover);
                    Err(ProbeError::Stalled(stood_still))
                }
            };
        }
        let stream = deadline.limit(ProbeStage::Connecting, connect(endpoint, *source)).await?;
        let CheckKind::Http(http) = &check.kind else { return Ok(()) };
        let host = http.host.clone().unwrap_or_else(|| default_host(*vip, http.tls.is_some()));
        let request = request(&http.path, &host)?;
        let wants_body = http.md5.is_some();
        let answer = if let (Some(tls), Some(connector)) = (&http.tls, &self.tls) {
            let connector = connector.as_ref().map_err(Clone::clone)?;
            let name = tls::server_name(tls, http.host.as_deref(), endpoint.ip());
            let session = tls::session(connector, name, stream);
            let session = deadline.limit(ProbeStage::Handshaking, session).await?;
            let exchange = exchange(session, request, wants_body);
            deadline.limit(ProbeStage::AwaitingResponse, exchange).await?
        } else {
            let exchange = exchange(stream, request, wants_body);
            deadline.limit(ProbeStage::AwaitingResponse, exchange).await?
        };
        answer.is_as_expected(http)
    }
}

/// What a server answered.
struct Answer {
    status: StatusCode,
    /// The digest of the body, if that was wanted.
    md5: Option<[u8; 16]>,
}

impl Answer {
    fn is_as_expected(&self, http: &HttpCheck) -> Result<(), ProbeError> {
        if !is_in(&http.statuses, self.status.as_u16().into()) {
            let expected = ranges(&http.statuses);
            return Err(ProbeError::Status { status: self.status.as_u16(), expected });
        }
        match (self.md5, http.md5) {
            (Some(found), Some(expected)) if found != expected => {
                Err(ProbeError::Body { found: digits(found), expected: digits(expected) })
            }
            _ => Ok(()),
        }
    }
}

fn is_in(ranges: &[(u16, u16)], number: i32) -> bool {
    ranges.iter().any(|&(first, last)| (i32::from(first)..=i32::from(last)).contains(&number))
}

fn digits(md5: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(md5))
}

/// The end of a probe, for all its stages together.
struct Deadline {
    started: Instant,
    timeout: Duration,
}

impl Deadline {
    fn new(timeout: Duration) -> Self {
        Self { started: Instant::now(), timeout }
    }

    async fn limit<T>(
        &self,
        stage: ProbeStage,
        work: impl Future<Output = Result<T, ProbeError>>,
    ) -> Result<T, ProbeError> {
        match tokio::time::timeout_at(self.started + self.timeout, work).await {
            Ok(result) => result,
            Err(_) => Err(self.overrun(self.started.elapsed(), stage)),
        }
    }

    /// A timer that fires much too late means that we slept, not that the backend did.
    fn overrun(&self, elapsed: Duration, stage: ProbeStage) -> ProbeError {
        let slack = self.timeout.max(Duration::from_millis(100));
        match elapsed.checked_sub(self.timeout) {
            Some(late) if late > slack => ProbeError::Stalled(Duration::from_millis(late.as_millis() as u64)),
            _ => ProbeError::Timeout { after: self.timeout, stage },
        }
    }
}

async fn connect(endpoint: SocketAddr, source: Option<IpAddr>) -> Result<TcpStream, ProbeError> {
    let socket = match endpoint {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }
    .map_err(|error| ProbeError::Socket(words(&error)))?;
    if let Some(address) = source {
        bind(&socket, address).map_err(|error| ProbeError::Source { address, error: words(&error) })?;
    }
    socket.connect(endpoint).await.map_err(|error| from_io(ProbeStage::Connecting, &error))
}

fn bind(socket: &TcpSocket, address: IpAddr) -> io::Result<()> {
    // The port is chosen by connect(), per destination: bind() alone would use up the ephemeral ports.
    setsockopt(socket, IpBindAddressNoPort, &true)?;
    socket.bind(SocketAddr::new(address, 0))
}

/// Sends the request and waits for the response's header, and its body if that is wanted. The connection is closed when
/// this returns.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Empty<Bytes>>,
    wants_body: bool,
) -> Result<Answer, ProbeError> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEADER)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| from_hyper(&error))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| from_hyper(&error))?;
        let status = response.status();
        let md5 = if wants_body { Some(md5_of(response.into_body()).await?) } else { None };
        Ok(Answer { status, md5 })
    };
    let (mut answer, mut connection) = (pin!(answer), pin!(connection));
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = &mut connection => {
            ended.map_err(|error| from_hyper(&error))?;
            answer.await
        }
    }
}

/// The digest of a body.
async fn md5_of(mut body: Incoming) -> Result<[u8; 16], ProbeError> {
    let (mut digest, mut length) = (Md5::new(), 0);
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|error| from_hyper(&error))?.into_data() {
            length += data.len();
            if length > MAX_BODY {
                return Err(ProbeError::LongBody(MAX_BODY));
            }
            digest.update(&data);
        }
    }
    Ok(digest.finalize().into())
}

fn request(path: &str, host: &str) -> Result<Request<Empty<Bytes>>, ProbeError> {
    Request::get(path)
        .version(Version::HTTP_11)
        .header(HOST, host)
        .header(
            USER_AGENT,
            HeaderValue::from_static(concat!("lb/", env!("CARGO_PKG_VERSION"), " health check")),
        )
        .header(CONNECTION, HeaderValue::from_static("close"))
        .body(Empty::new())
        .map_err(|error| ProbeError::Request(error.to_string()))
}

/// The VIP as a client's browser would write it (RFC 9110 §7.2).
fn default_host(vip: SocketAddr, is_tls: bool) -> String {
    let usual = if is_tls { 443 } else { 80 };
    match vip.ip() {
        _ if vip.port() != usual => vip.to_string(),
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

fn from_hyper(error: &hyper::Error) -> ProbeError {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            if io.kind() == io::ErrorKind::UnexpectedEof {
                return ProbeError::Closed;
            }
            return from_io(ProbeStage::AwaitingResponse, io);
        }
        source = cause.source();
    }
    if error.is_parse() { ProbeError::NotHttp(error.to_string()) } else { ProbeError::Closed }
}

/// `200–399, 404`.
fn ranges(statuses: &[(u16, u16)]) -> String {
    let one = |&(first, last): &(u16, u16)| {
        if first == last { first.to_string() } else { format!("{first}–{last}") }
    };
    statuses.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
