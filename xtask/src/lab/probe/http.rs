//! One HTTP/1.1 request at a time, each over a new connection.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use crate::lab::{error::LabError, node::Node, web::NODE_HEADER};

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The node that answered, if it said so.
    pub node: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// Asks from `client` for `path`.
pub fn request(
    client: &Node,
    address: Ipv4Addr,
    port: u16,
    path: &str,
    upload: Option<&[u8]>,
    timeout: Duration,
) -> Result<Response, LabError> {
    client.within(|| exchange(address, port, path, upload, timeout))?.map_err(|source| LabError::Http {
        address,
        port,
        path: path.to_owned(),
        source,
    })
}

fn exchange(
    address: Ipv4Addr,
    port: u16,
    path: &str,
    upload: Option<&[u8]>,
    timeout: Duration,
) -> io::Result<Response> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((address, port)), timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let method = if upload.is_some() { "POST" } else { "GET" };
    let body = upload.unwrap_or_default();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a whole HTTP answer"))
}

/// Reads the answer to a request with `Connection: close`; `None` unless it is whole.
pub(crate) fn parse(bytes: &[u8]) -> Option<Response> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let body = &bytes[end + 4..];
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let header = |name: &str| {
        lines.clone().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    if header("Content-Length").is_some_and(|length| length.parse() != Ok(body.len())) {
        return None;
    }
    Some(Response { status, node: header(NODE_HEADER).map(str::to_owned), body: body.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_whole_or_not_at_all() {
        let whole = b"HTTP/1.1 200 OK\r\nx-node: node-b\r\nContent-Length: 2\r\n\r\nhi";
        let expected = Response { status: 200, node: Some("node-b".to_owned()), body: b"hi".to_vec() };
        assert_eq!(parse(whole), Some(expected));
        for cut in 0..whole.len() {
            assert_eq!(parse(&whole[..cut]), None, "cut at {cut}");
        }
    }
}
