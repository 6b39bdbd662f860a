//! Pinned links, through the bpf system call: aya opens and updates them but neither tells which interface a link is
//! of nor detaches one.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

const BPF_OBJ_GET: libc::c_int = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_UPDATE: libc::c_int = 29;
const BPF_LINK_DETACH: libc::c_int = 34;
const BPF_LINK_TYPE_XDP: u32 = 6;

/// An attachment of an XDP program to an interface, as the kernel keeps it.
#[derive(Debug)]
pub(super) struct Link(OwnedFd);

/// What the kernel says about an XDP link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Identifies the link for as long as it exists.
    pub id: u32,
    /// The program it runs.
    pub program: u32,
    /// The interface it is attached to; 0 if that is gone.
    pub ifindex: u32,
}

impl Link {
    /// Opens the link pinned at `path`; `None` if nothing is there.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        /// The part of `union bpf_attr` that the command reads.
        #[repr(C)]
        struct Attribute {
            path: u64,
            fd: u32,
            flags: u32,
        }
        let c_path = CString::new(path.as_os_str().as_bytes())?;
        let mut attribute = Attribute { path: c_path.as_ptr() as u64, fd: 0, flags: 0 };
        match bpf(BPF_OBJ_GET, &mut attribute) {
            // SAFETY: the kernel has just returned this descriptor to us and to nobody else.
            Ok(fd) => Ok(Some(Self(unsafe { OwnedFd::from_raw_fd(fd) }))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks the kernel about the link; an error too if it is not one of XDP.
    pub(super) fn state(&self) -> io::Result<LinkState> {
        #[repr(C)]
        struct Attribute {
            fd: u32,
            length: u32,
            info: u64,
        }
        /// The start of `struct bpf_link_info`.
        #[repr(C)]
        #[derive(Default)]
        struct Info {
            kind: u32,
            id: u32,
            program: u32,
            padding: u32,
            ifindex: u32,
            unused: [u32; 3],
        }
        let mut info = Info::default();
        let mut attribute = Attribute {
            fd: self.0.as_raw_fd().cast_unsigned(),
            length: size_of::<Info>() as u32,
            info: (&raw mut info) as u64,
        };
        bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attribute)?;
        if info.kind != BPF_LINK_TYPE_XDP {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "this is not a link of XDP"));
        }
        Ok(LinkState { id: info.id, program: info.program, ifindex: info.ifindex })
    }

    /// Lets the link run another program from the next packet on.
    pub(super) fn replace(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        #[repr(C)]
        struct Attribute {
            link: u32,
            program: u32,
            flags: u32,
            old_program: u32,
        }
        let mut attribute = Attribute {
            link: self.0.as_raw_fd().cast_unsigned(),
            program: program.as_raw_fd().cast_unsigned(),
            flags: 0,
            old_program: 0,
        };
        bpf(BPF_LINK_UPDATE, &mut attribute).map(drop)
    }

    /// Takes the program off the interface at once; merely forgetting the link would leave it on for a moment.
    pub(super) fn detach(&self) -> io::Result<()> {
        let mut attribute = self.0.as_raw_fd().cast_unsigned();
        bpf(BPF_LINK_DETACH, &mut attribute).map(drop)
    }
}

/// The system call. `T` must be laid out as the part of `union bpf_attr` that `command` reads.
fn bpf<T>(command: libc::c_int, attribute: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: the kernel reads and writes `size_of::<T>()` bytes there and takes what lies beyond as zeros; the
    // addresses within are of live values of the caller.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attribute), size_of::<T>()) };
    // A descriptor fits; anything else the commands above return is 0 or −1.
    match libc::c_int::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}
