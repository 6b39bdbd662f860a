use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::oneshot,
};

use super::*;
use crate::{
    config::{Authorities, Check, CommandCheck, Tls},
    health::CheckId,
};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(400);
const LOCALHOST: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn check(kind: CheckKind, timeout: Duration) -> Check {
    Check { kind, interval: LONG, fast_interval: LONG, timeout, rise: 1, fall: 1, port: None }
}

fn http_check(path: &str, host: Option<&str>, statuses: &[(u16, u16)]) -> HttpCheck {
    HttpCheck {
        path: path.into(),
        host: host.map(str::to_owned),
        statuses: statuses.to_vec(),
        md5: None,
        tls: None,
    }
}

fn http(path: &str, host: Option<&str>, statuses: &[(u16, u16)]) -> CheckKind {
    CheckKind::Http(http_check(path, host, statuses))
}

/// Probes once, without a VIP to ask for.
async fn probe(
    endpoint: SocketAddr,
    source: Option<IpAddr>,
    check: &Check,
    vip: SocketAddr,
) -> Result<(), ProbeError> {
    let target = Target {
        id: CheckId(0),
        address: endpoint.ip(),
        port: endpoint.port(),
        check: check.clone(),
        source,
        vip,
        vip_path: VipPath::NotAsked,
    };
    probe_target(&target).await
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
        ("192.0.2.10:80", "192.0.2.10", "192.0.2.10:80"),
        ("192.0.2.10:8080", "192.0.2.10:8080", "192.0.2.10:8080"),
        ("[2001:db8::1]:80", "[2001:db8::1]", "[2001:db8::1]:80"),
        ("[2001:db8::1]:443", "[2001:db8::1]:443", "[2001:db8::1]"),
    ];
    for (vip, host, host_in_tls) in cases {
        assert_eq!(default_host(vip.parse().unwrap(), false), host);
        assert_eq!(default_host(vip.parse().unwrap(), true), host_in_tls);
    }
}

#[test]
fn ranges_are_readable() {
    assert_eq!(ranges(&[(200, 399), (404, 404)]), "200–399, 404");
}

#[tokio::test]
async fn the_page_is_compared_by_its_digest() {
    // printf 'hello\n' | md5sum
    let hello = 0xb194_6ac9_2492_d234_7c62_35b4_d261_1184_u128.to_be_bytes();
    // By length, in chunks, and to the end of the connection.
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n4\r\nllo\n\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nhello\n",
    ] {
        let ask = async |md5| {
            let (address, _request) = serve(answer, false).await;
            let kind = CheckKind::Http(HttpCheck { md5: Some(md5), ..http_check("/", None, &[(200, 399)]) });
            probe(address, None, &check(kind, LONG), vip()).await
        };
        assert_eq!(ask(hello).await, Ok(()));
        let error = ask([0xab; 16]).await.unwrap_err().to_string();
        let expected = "the MD5 digest of the page is b1946ac92492d2347c6235b4d2611184, expected \
                        abababababababababababababababab";
        assert_eq!(error, expected);
    }
    // A body that was announced and does not come.
    let (address, _request) = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhel", false).await;
    let kind = CheckKind::Http(HttpCheck { md5: Some(hello), ..http_check("/", None, &[(200, 399)]) });
    assert_eq!(probe(address, None, &check(kind, LONG), vip()).await, Err(ProbeError::Closed));
}

fn command(words: &[&str], exits: &[(u16, u16)]) -> CheckKind {
    let command = words.iter().map(ToString::to_string).collect();
    // Tests may run as anybody.
    CheckKind::Command(CommandCheck { command, user: None, exits: exits.to_vec() })
}

async fn run(kind: CheckKind, timeout: Duration) -> Result<(), ProbeError> {
    probe("192.0.2.9:8080".parse().unwrap(), None, &check(kind, timeout), vip()).await
}

#[tokio::test]
async fn a_command_tells_by_its_exit_status() {
    let exit = |status: &str| ["sh", "-c", "echo it is $0; exit $0", status].map(str::to_owned);
    let ask = async |status: &str, exits: &[(u16, u16)]| {
        let words = exit(status);
        run(command(&words.each_ref().map(String::as_str), exits), LONG).await
    };
    assert_eq!(ask("0", &[(0, 0)]).await, Ok(()));
    let error = ask("1", &[(0, 0)]).await.unwrap_err();
    assert_eq!(error.to_string(), "check command: exit status 1: it is 1");
    assert!(!error.is_inconclusive());
    // As keepalived's misc_dynamic.
    for (status, passes) in [("0", true), ("1", false), ("2", true), ("255", true)] {
        assert_eq!(ask(status, &[(0, 0), (2, 255)]).await.is_ok(), passes, "{status}");
    }
    let missing = run(command(&["/no/such/program"], &[(0, 0)]), LONG).await.unwrap_err().to_string();
    assert!(missing.starts_with("check command: /no/such/program: "), "{missing}");
    let killed = run(command(&["sh", "-c", "kill -9 $$"], &[(0, 0), (137, 137)]), LONG).await.unwrap_err();
    assert_eq!(killed.to_string(), "check command: killed by SIGKILL");
}

#[tokio::test]
async fn a_command_is_told_whom_it_is_about() {
    let script = "[ \"$0 $1\" = '192.0.2.9 port 8080, VIP 192.0.2.10' ]";
    let words = ["sh", "-c", script, "{address}", "port {port}, VIP {vip}"];
    assert_eq!(run(command(&words, &[(0, 0)]), LONG).await, Ok(()));
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_killed() {
    let error = run(command(&["sleep", "3600"], &[(0, 0)]), SHORT).await.unwrap_err();
    assert_eq!(error.to_string(), "check command: timeout after 400ms");
}

/// As `serve`, inside TLS; hands back the name that was asked for.
async fn serve_tls(answer: &'static [u8]) -> (SocketAddr, oneshot::Receiver<Option<String>>) {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
    let certificate = CertificateDer::from_pem_slice(include_bytes!("tls/server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/server.key")).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = TcpListener::bind(LOCALHOST).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = oneshot::channel();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        // A client that does not like the certificate goes.
        let Ok(mut session) = acceptor.accept(stream).await else { return };
        drop(sender.send(session.get_ref().1.server_name().map(str::to_owned)));
        let _ = session.read(&mut [0; 1024]).await;
        session.write_all(answer).await.unwrap();
        session.shutdown().await.unwrap();
    });
    (address, receiver)
}

async fn ask_tls(host: Option<&str>, tls: Tls) -> (Result<(), ProbeError>, Option<String>) {
    let (address, name) = serve_tls(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let kind = CheckKind::Http(HttpCheck { tls: Some(tls), ..http_check("/", host, &[(200, 200)]) });
    let result = probe(address, None, &check(kind, LONG), vip()).await;
    (result, name.await.ok().flatten())
}

fn trusted() -> Authorities {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    let authority = CertificateDer::from_pem_slice(include_bytes!("tls/ca.pem")).unwrap();
    Authorities::Known(vec![authority.to_vec()])
}

#[tokio::test]
async fn an_https_check_takes_any_certificate_unless_told_whose() {
    let any = |name: Option<&str>| Tls { name: name.map(str::to_owned), authorities: None };
    assert_eq!(ask_tls(None, any(None)).await, (Ok(()), None), "an address is not asked for by name");
    let asked = ask_tls(Some("other.example:8443"), any(None)).await;
    assert_eq!(asked, (Ok(()), Some("other.example".to_owned())));
    let asked = ask_tls(Some("other.example"), any(Some("third.example"))).await;
    assert_eq!(asked, (Ok(()), Some("third.example".to_owned())));
}

#[tokio::test]
async fn an_https_check_compares_name_and_authority() {
    let by = |name: Option<&str>| Tls { name: name.map(str::to_owned), authorities: Some(trusted()) };
    assert_eq!(ask_tls(Some("www.example.org"), by(None)).await.0, Ok(()));
    assert_eq!(ask_tls(None, by(None)).await.0, Ok(()), "the certificate has the address, too");
    let (result, _) = ask_tls(Some("other.example"), by(None)).await;
    let error = result.unwrap_err().to_string();
    assert!(error.starts_with("TLS: invalid peer certificate: certificate not valid for name"), "{error}");

    // One that signed something else.
    let own = Authorities::Known(vec![
        rustls::pki_types::pem::PemObject::from_pem_slice(include_bytes!("tls/server.pem"))
            .map(|certificate: rustls::pki_types::CertificateDer<'_>| certificate.to_vec())
            .unwrap(),
    ]);
    let (result, _) = ask_tls(Some("www.example.org"), Tls { name: None, authorities: Some(own) }).await;
    let error = result.unwrap_err();
    assert!(matches!(error, ProbeError::Tls(_)) && !error.is_inconclusive(), "{error}");
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_fails() {
    let kind =
        || CheckKind::Http(HttpCheck { tls: Some(Tls::default()), ..http_check("/", None, &[(200, 399)]) });
    let listener = TcpListener::bind(LOCALHOST).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await;
    });
    let error = probe(address, None, &check(kind(), LONG), vip()).await.unwrap_err();
    assert!(matches!(error, ProbeError::Tls(_)), "{error}");

    let listener = TcpListener::bind(LOCALHOST).await.unwrap();
    let address = listener.local_addr().unwrap();
    let error = probe(address, None, &check(kind(), SHORT), vip()).await.unwrap_err();
    assert_eq!(error.to_string(), "timeout after 400ms while making a TLS session");
}
