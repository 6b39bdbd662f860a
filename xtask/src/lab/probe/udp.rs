//! A UDP service that says which node it runs on.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt::IpFreebind,
};

use crate::lab::{error::LabError, node::Node, realtime};

/// No datagram is longer.
const LARGEST: usize = 65_535;
const POLL: Duration = Duration::from_millis(50);

/// Answers every datagram with the node's name, a colon and the datagram, until it is dropped.
#[derive(Debug)]
pub struct EchoServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl EchoServer {
    /// Listens on `node`; `address` need not be the node's yet.
    pub fn start(node: &Node, address: Ipv4Addr, port: u16) -> Result<Self, LabError> {
        let socket = node
            .within(|| listen(SocketAddrV4::new(address, port)))?
            .map_err(LabError::io(format!("listening on {address}:{port} of {}", node.name())))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (name, stopped) = (node.name().to_owned(), Arc::clone(&stop));
        // The socket stays in the node's namespace, whichever thread uses it.
        let thread = std::thread::spawn(move || serve(&socket, &name, &stopped));
        Ok(Self { stop, thread: Some(thread) })
    }
}

/// Answers likewise until this process ends, under the host name. In a process of a node it is frozen with the node.
pub(crate) fn run(at: SocketAddrV4) -> Result<(), LabError> {
    realtime::hurry();
    let path = "/proc/sys/kernel/hostname";
    let name = std::fs::read_to_string(path).map_err(LabError::io(format!("reading {path}")))?;
    let socket = listen(at).map_err(LabError::io(format!("listening on {at}")))?;
    serve(&socket, name.trim_end(), &AtomicBool::new(false));
    Ok(())
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the server shows as missing answers.
            let _ = thread.join();
        }
    }
}

fn listen(address: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, IpFreebind, &true)?;
    bind(socket.as_raw_fd(), &SockaddrIn::from(address))?;
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(POLL))?;
    Ok(socket)
}

fn serve(socket: &UdpSocket, name: &str, stop: &AtomicBool) {
    let mut buffer = vec![0; LARGEST];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, sender)) = socket.recv_from(&mut buffer) else { continue };
        let answer = [name.as_bytes(), b":", &buffer[..length]].concat();
        // A lost answer is for the asker to notice.
        let _ = socket.send_to(&answer, sender);
    }
}

/// Sends `payload` from a new socket of `client` and returns the node that echoed it unharmed; `None` if nobody did in time.
pub fn ask(
    client: &Node,
    address: Ipv4Addr,
    port: u16,
    payload: &[u8],
    timeout: Duration,
) -> Result<Option<String>, LabError> {
    let what = format!("asking {address}:{port} by UDP from {}", client.name());
    let answer = client.within(|| -> io::Result<Option<Vec<u8>>> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_read_timeout(Some(timeout))?;
        // Connected: an answer from any other address than the one asked is not received.
        socket.connect((address, port))?;
        socket.send(payload)?;
        let mut buffer = vec![0; LARGEST];
        match socket.recv(&mut buffer) {
            Ok(length) => Ok(Some(buffer[..length].to_vec())),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    })?;
    let Some(answer) = answer.map_err(LabError::io(what.as_str()))? else { return Ok(None) };
    let colon = answer.iter().position(|byte| *byte == b':');
    match colon {
        Some(colon) if &answer[colon + 1..] == payload => {
            Ok(Some(String::from_utf8_lossy(&answer[..colon]).into_owned()))
        }
        _ => Err(LabError::Unexpected { what, detail: format!("{} bytes came back changed", answer.len()) }),
    }
}
