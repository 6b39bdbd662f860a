use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::oneshot,
};

use super::*;

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(400);
const LOCALHOST: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn check(kind: CheckKind, timeout: Duration) -> Check {
    Check { kind, interval: LONG, fast_interval: LONG, timeout, rise: 1, fall: 1, port: None }
}

fn http(path: &str, host: Option<&str>, statuses: &[(u16, u16)]) -> CheckKind {
    CheckKind::Http { path: path.into(), host: host.map(str::to_owned), statuses: statuses.to_vec() }
}

fn vip() -> SocketAddr {
    "192.0.2.10:8080".parse().unwrap()
}

/// Serves one connection: reads a request up to its empty line, sends `answer`, and hands back the request.
/// With `hold` the connection then stays open until the client closes it.
async fn serve(answer: &'static [u8], hold: bool) -> (SocketAddr, oneshot::Receiver<String>) {
    let listener = TcpListener::bind(LOCALHOST).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut request).await.unwrap() == 0 {
                break;
            }
        }
        stream.write_all(answer).await.unwrap();
        if hold {
            let _ = stream.read(&mut [0; 64]).await;
        }
        drop(sender.send(String::from_utf8(request).unwrap()));
    });
    (address, receiver)
}

async fn http_probe(answer: &'static [u8], hold: bool, timeout: Duration) -> Result<(), ProbeError> {
    let (address, _request) = serve(answer, hold).await;
    probe(address, None, &check(http("/", None, &[(200, 399)]), timeout), vip()).await
}

#[tokio::test]
async fn a_tcp_check_wants_a_connection_only() {
    let listener = TcpListener::bind(LOCALHOST).await.unwrap();
    let address = listener.local_addr().unwrap();
    assert_eq!(probe(address, None, &check(CheckKind::Tcp, LONG), vip()).await, Ok(()));
    drop(listener);
    let error = probe(address, None, &check(CheckKind::Tcp, LONG), vip()).await.unwrap_err();
    assert_eq!(error.to_string(), "connection refused");
}

#[tokio::test]
async fn a_tcp_connection_nobody_answers_times_out() {
    // A full accept queue: the kernel drops further connection attempts.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(LOCALHOST).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    let error = loop {
        assert!(held.len() < 16, "the queue never filled");
        match probe(address, None, &check(CheckKind::Tcp, SHORT), vip()).await {
            Ok(()) => held.push(TcpStream::connect(address).await.unwrap()),
            Err(error) => break error,
        }
    };
    assert_eq!(error.to_string(), "timeout after 400ms while connecting");
}

#[tokio::test]
async fn an_http_check_asks_as_configured() {
    let cases = [
        (http("/", None, &[(200, 399)]), "GET / HTTP/1.1\r\n", "host: 192.0.2.10:8080\r\n"),
        (
            http("/health?deep=1", Some("www.example"), &[(204, 204)]),
            "GET /health?deep=1 HTTP/1.1\r\n",
            "host: www.example\r\n",
        ),
    ];
    for (kind, line, host) in cases {
        let (address, request) = serve(b"HTTP/1.1 204 No Content\r\n\r\n", false).await;
        assert_eq!(probe(address, None, &check(kind, LONG), vip()).await, Ok(()));
        let request = request.await.unwrap();
        assert!(request.starts_with(line), "{request}");
        assert!(request.contains(host), "{request}");
        assert!(request.contains("connection: close\r\n"), "{request}");
    }
}

#[tokio::test]
async fn the_header_decides_whatever_the_body_does() {
    // The body is announced and never comes; the redirect is not followed.
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nx"[..],
        b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ] {
        assert_eq!(http_probe(answer, true, LONG).await, Ok(()), "{}", String::from_utf8_lossy(answer));
    }
}

#[tokio::test]
async fn bad_answers_have_precise_reasons() {
    let cases: &[(&[u8], &str)] = &[
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "HTTP 503, expected 200–399"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "HTTP 404, expected 200–399"),
        (b"", "connection closed before the HTTP response was complete"),
        (b"HTTP/1.1 200 OK\r\nServer", "connection closed before the HTTP response was complete"),
        (b"220 mail.example ESMTP\r\n", "not an HTTP/1.1 response: invalid HTTP version parsed"),
    ];
    for &(answer, expected) in cases {
        let error = http_probe(answer, false, LONG).await.unwrap_err();
        assert_eq!(error.to_string(), expected, "{}", String::from_utf8_lossy(answer));
        assert!(!error.is_inconclusive());
    }
}

#[tokio::test]
async fn an_endless_header_is_refused() {
    let listener = TcpListener::bind(LOCALHOST).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        while stream.write_all(b"X-Filler: 0123456789012345678901234567890123456789\r\n").await.is_ok() {}
    });
    let error = probe(address, None, &check(http("/", None, &[(200, 399)]), LONG), vip()).await.unwrap_err();
    assert!(matches!(error, ProbeError::NotHttp(_)), "{error}");
}

#[tokio::test]
async fn silence_and_slow_headers_time_out() {
    for answer in [&b""[..], b"HTTP/1.1 200 OK\r\nSer"] {
        let error = http_probe(answer, true, SHORT).await.unwrap_err();
        assert_eq!(error.to_string(), "timeout after 400ms while waiting for the HTTP response");
    }
}

#[tokio::test]
async fn the_source_address_is_used() {
    let listener = TcpListener::bind(LOCALHOST).await.unwrap();
    let address = listener.local_addr().unwrap();
    let source: IpAddr = "127.0.0.99".parse().unwrap();
    let tcp = check(CheckKind::Tcp, LONG);
    assert_eq!(probe(address, Some(source), &tcp, vip()).await, Ok(()));
    assert_eq!(listener.accept().await.unwrap().1.ip(), source);

    let foreign: IpAddr = "192.0.2.77".parse().unwrap();
    let error = probe(address, Some(foreign), &tcp, vip()).await.unwrap_err();
    assert!(error.is_inconclusive());
    assert!(error.to_string().starts_with("this node cannot send from 192.0.2.77: "), "{error}");
}

#[tokio::test]
async fn an_impossible_request_names_the_setting() {
    let (address, _request) = serve(b"", false).await;
    let bad = check(http("/", Some("a\nb"), &[(200, 399)]), LONG);
    let error = probe(address, None, &bad, vip()).await.unwrap_err();
    assert!(error.to_string().contains("correct the check's `http` path or `host`"), "{error}");
}

#[test]
fn a_timer_that_fires_far_too_late_is_this_nodes_fault() {
    let deadline = Deadline { started: Instant::now(), timeout: Duration::from_millis(500) };
    let stage = ProbeStage::Connecting;
    let timeout = ProbeError::Timeout { after: Duration::from_millis(500), stage };
    assert_eq!(deadline.overrun(Duration::from_millis(501), stage), timeout);
    assert_eq!(deadline.overrun(Duration::from_secs(1), stage), timeout);
    let stalled = deadline.overrun(Duration::from_millis(3_700), stage);
    assert_eq!(stalled.to_string(), "this node stood still for 3s 200ms during the probe");
}

#[test]
fn the_default_host_is_what_a_browser_would_send() {
    let cases = [
        ("192.0.2.10:80", "192.0.2.10"),
        ("192.0.2.10:8080", "192.0.2.10:8080"),
        ("[2001:db8::1]:80", "[2001:db8::1]"),
        ("[2001:db8::1]:443", "[2001:db8::1]:443"),
    ];
    for (vip, host) in cases {
        assert_eq!(default_host(vip.parse().unwrap()), host);
    }
}

#[test]
fn ranges_are_readable() {
    assert_eq!(ranges(&[(200, 399), (404, 404)]), "200–399, 404");
}
