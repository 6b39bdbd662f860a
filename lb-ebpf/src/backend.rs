//! A backend where it stands in its map.

use core::marker::PhantomData;

use lb_common::{Address, Backend, Be16, Be32, NextHop};

/// A backend of which each field is read when it is needed: most packets need few of them.
#[derive(Clone, Copy)]
pub struct BackendEntry<'a> {
    at: *const Backend,
    memory: PhantomData<&'a Backend>,
}

macro_rules! fields {
    ($($(#[$doc:meta])* $field:ident: $kind:ty),+ $(,)?) => {$(
        $(#[$doc])*
        #[inline(always)]
        pub fn $field(self) -> $kind {
            // SAFETY: the contract of `new`.
            unsafe { (&raw const (*self.at).$field).read_volatile() }
        }
    )+};
}

impl<'a> BackendEntry<'a> {
    /// The backend at an address.
    ///
    /// # Safety
    ///
    /// A backend must stand there, aligned, for the lifetime. Only its next hop and its flags may change meanwhile, each by
    /// one store.
    #[inline(always)]
    pub unsafe fn new(at: *const Backend) -> Self {
        Self { at, memory: PhantomData::<&'a Backend> }
    }

    fields! {
        /// [`Backend::address`]
        address: Address,
        /// [`Backend::source`]
        source: Address,
        /// [`Backend::port`]
        port: Be16,
        /// [`Backend::mode`]
        mode: u8,
        /// [`Backend::flags`]
        flags: u8,
        /// [`Backend::overhead`]
        overhead: u16,
        /// [`Backend::room`]
        room: u32,
        /// [`Backend::outer_sum`]
        outer_sum: u16,
    }

    /// The last words of [`Backend::source`] and [`Backend::address`]: the addresses, if they are IPv4 ones.
    #[inline(always)]
    pub fn ends4(self) -> (Be32, Be32) {
        // SAFETY: the contract of `new`.
        unsafe {
            (
                (&raw const (*self.at).source.0[3]).read_volatile(),
                (&raw const (*self.at).address.0[3]).read_volatile(),
            )
        }
    }

    /// [`Backend::next_hop`], in one load.
    #[inline(always)]
    pub fn next_hop(self) -> NextHop {
        // SAFETY: the contract of `new`; the field is a transparent word.
        NextHop(unsafe { (&raw const (*self.at).next_hop).cast::<u64>().read_volatile() })
    }
}

impl<'a> From<&'a Backend> for BackendEntry<'a> {
    fn from(backend: &'a Backend) -> Self {
        // SAFETY: a borrowed backend stands still.
        unsafe { Self::new(backend) }
    }
}
