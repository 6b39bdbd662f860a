//! One probe of one backend.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    time::Duration,
};

use http_body_util::Empty;
use hyper::{
    Request, StatusCode, Version,
    body::Bytes,
    client::conn::http1,
    header::{CONNECTION, HOST, HeaderValue, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::Instant,
};

use super::{
    ProbeError, ProbeStage, Target, VipPath,
    error::{from_io, words},
    vip_path,
};
use crate::config::{Check, CheckKind};

/// What a response header may take; more is an error.
const MAX_HEADER: usize = 16 * 1024;

/// Probes a backend once: its check, and when that passes, whether it takes what is sent to the VIP. Both
/// together have the check's timeout.
pub async fn probe_target(target: &Target) -> Result<(), ProbeError> {
    let deadline = Deadline::new(target.check.timeout);
    check_passes(&deadline, target.endpoint(), target.source, &target.check, target.vip).await?;
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

/// Probes `endpoint` once, from `source` if given. `vip` names the service for the HTTP `Host`.
///
/// A TCP check wants a connection, an HTTP check the header of a response with an accepted status; redirects
/// are a status like any other, bodies are not read.
pub async fn probe(
    endpoint: SocketAddr,
    source: Option<IpAddr>,
    check: &Check,
    vip: SocketAddr,
) -> Result<(), ProbeError> {
    check_passes(&Deadline::new(check.timeout), endpoint, source, check, vip).await
}

async fn check_passes(
    deadline: &Deadline,
    endpoint: SocketAddr,
    source: Option<IpAddr>,
    check: &Check,
    vip: SocketAddr,
) -> Result<(), ProbeError> {
    let stream = deadline.limit(ProbeStage::Connecting, connect(endpoint, source)).await?;
    match &check.kind {
        CheckKind::Tcp => Ok(()),
        CheckKind::Http { path, host, statuses } => {
            let host = host.clone().unwrap_or_else(|| default_host(vip));
            let request = request(path, &host)?;
            let status = deadline.limit(ProbeStage::AwaitingResponse, exchange(stream, request)).await?;
            if statuses.iter().any(|&(first, last)| (first..=last).contains(&status.as_u16())) {
                Ok(())
            } else {
                Err(ProbeError::Status { status: status.as_u16(), expected: ranges(statuses) })
            }
        }
    }
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

/// Sends the request and waits for the response's header. The connection is closed when this returns.
async fn exchange(stream: TcpStream, request: Request<Empty<Bytes>>) -> Result<StatusCode, ProbeError> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEADER)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| from_hyper(&error))?;
    let mut response = pin!(sender.send_request(request));
    let mut connection = pin!(connection);
    let response = tokio::select! {
        biased;
        response = &mut response => response,
        ended = &mut connection => {
            ended.map_err(|error| from_hyper(&error))?;
            response.await
        }
    };
    Ok(response.map_err(|error| from_hyper(&error))?.status())
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
fn default_host(vip: SocketAddr) -> String {
    match (vip.port(), vip.ip()) {
        (80, IpAddr::V4(address)) => address.to_string(),
        (80, IpAddr::V6(address)) => format!("[{address}]"),
        _ => vip.to_string(),
    }
}

fn from_hyper(error: &hyper::Error) -> ProbeError {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
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
