//! The bytes of one frame, read and written only where a bounds check has been.
//!
//! [`Packet::header`] checks that `N` bytes are there; a [`Header`] then reads and writes at offsets that the
//! compiler has checked to be below `N`. So each stage has one branch per header, not one per field, and the
//! kernel's verifier sees the check right where it needs it.

/// A frame, from its first byte to the end of what the kernel shows of it.
#[derive(Clone, Copy)]
pub struct Packet {
    start: *mut u8,
    end: *mut u8,
}

impl Packet {
    /// A frame between two addresses.
    ///
    /// # Safety
    ///
    /// The bytes from `start` to `end` must be readable and writable for as long as the value or a [`Header`]
    /// made from it is used, and nobody else may use them meanwhile.
    #[inline(always)]
    pub unsafe fn new(start: *mut u8, end: *mut u8) -> Self {
        Self { start, end }
    }

    /// The first `N` bytes, if there are as many.
    #[inline(always)]
    pub fn header<const N: usize>(self) -> Option<Header<N>> {
        Self::checked(self.start, self.end)
    }

    /// The `N` bytes from `offset` on, if there are as many.
    #[inline(always)]
    pub fn header_at<const N: usize>(self, offset: u32) -> Option<Header<N>> {
        Self::checked(opaque(self.start.wrapping_add(offset as usize)), self.end)
    }

    /// The frame without its first `offset` bytes.
    #[must_use]
    #[inline(always)]
    pub fn behind(self, offset: u32) -> Self {
        Self { start: opaque(self.start.wrapping_add(offset as usize)), end: self.end }
    }

    /// The same frame to an optimiser that does not know it: what is read of it is read again. Otherwise all that a seldom
    /// used way wants to know would be prepared on the way it branches off from.
    #[must_use]
    #[inline(always)]
    pub fn anew(self) -> Self {
        Self { start: opaque(self.start), end: opaque(self.end) }
    }

    /// Whether the frame holds at least `length` bytes. Comparing addresses, not subtracting them, is what a
    /// process without CAP_PERFMON may do.
    #[inline(always)]
    pub fn holds(self, length: u32) -> bool {
        self.start.wrapping_add(length as usize) <= self.end
    }

    #[inline(always)]
    fn checked<const N: usize>(start: *mut u8, end: *mut u8) -> Option<Header<N>> {
        if start.wrapping_add(N) > end { None } else { Some(Header(start)) }
    }
}

/// Hides from the optimiser how an address was computed. The verifier ties a bounds check to the register it
/// was made on; an optimiser that computes "start + offset + field" anew for each field would lose that tie.
#[cfg(target_arch = "bpf")]
#[inline(always)]
fn opaque(mut address: *mut u8) -> *mut u8 {
    // One real instruction: the kernel refuses line information about none.
    // SAFETY: a register is copied to itself.
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) address, options(nomem, nostack, preserves_flags));
    }
    address
}

#[cfg(not(target_arch = "bpf"))]
fn opaque(address: *mut u8) -> *mut u8 {
    address
}

/// A 16-bit number that stands in network order, in host order. Verifiers before Linux 6.16 know nothing about the
/// result of a swap, not even that it has 16 bits.
#[inline(always)]
pub(crate) fn from_be16(value: u16) -> u32 {
    masked::<0xffff>(u32::from(u16::from_be(value)))
}

/// `value & MASK` by an instruction that the optimiser cannot leave out because it knows the value better than the
/// verifier does.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub(crate) fn masked<const MASK: u32>(value: u32) -> u32 {
    let mut number = u64::from(value);
    // SAFETY: a register is masked.
    unsafe {
        core::arch::asm!(
            "{number} &= {mask}",
            number = inout(reg) number,
            mask = const MASK,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    number as u32
}

#[cfg(not(target_arch = "bpf"))]
pub(crate) fn masked<const MASK: u32>(value: u32) -> u32 {
    value & MASK
}

/// `N` bytes of a frame that are known to be there.
#[derive(Clone, Copy)]
pub struct Header<const N: usize>(*mut u8);

impl<const N: usize> Header<N> {
    /// The first `M` bytes of it.
    #[inline(always)]
    pub fn first<const M: usize>(self) -> Header<M> {
        const { assert!(M <= N, "a part of the header") };
        Header(self.0)
    }

    /// The value at offset `AT`, its bytes as they stand in the packet.
    #[inline(always)]
    pub fn read<T: Word, const AT: usize>(self) -> T {
        const { assert!(AT + size_of::<T>() <= N, "the field lies within the header") };
        // SAFETY: `Packet` has checked that N bytes are there, the line above that the field is within them.
        unsafe { T::load::<AT>(self.0) }
    }

    /// Writes `value` at offset `AT`.
    #[inline(always)]
    pub fn write<T: Word, const AT: usize>(self, value: T) {
        const { assert!(AT + size_of::<T>() <= N, "the field lies within the header") };
        // SAFETY: as for `read`; the bytes are writable by the contract of `Packet::new`.
        unsafe { value.store::<AT>(self.0) }
    }
}

/// Integers that a header field may be read as, whole and wherever it stands.
///
/// Headers are not aligned in a frame. The kernel takes loads of any address in a packet, but the compiler would make
/// bytes of what it must take for unaligned; allowing it unaligned access altogether makes it do so on the stack too,
/// where the kernel refuses it. So the program says each load and store itself.
pub trait Word: Copy {
    /// Reads the integer `AT` bytes behind `start`.
    ///
    /// # Safety
    ///
    /// Its bytes must be readable.
    unsafe fn load<const AT: usize>(start: *const u8) -> Self;

    /// Writes the integer `AT` bytes behind `start`.
    ///
    /// # Safety
    ///
    /// Its bytes must be writable.
    unsafe fn store<const AT: usize>(self, start: *mut u8);
}

macro_rules! words {
    ($($word:ident),+) => {$(
        impl Word for $word {
            #[cfg(target_arch = "bpf")]
            #[inline(always)]
            unsafe fn load<const AT: usize>(start: *const u8) -> Self {
                let value: u64;
                // SAFETY: the caller's contract; a load of fewer than 64 bits clears the others, so the value is none too
                // great.
                unsafe {
                    core::arch::asm!(
                        concat!("{value} = *(", stringify!($word), " *)({start} + {at})"),
                        value = lateout(reg) value,
                        start = in(reg) start,
                        at = const AT,
                        options(pure, readonly, nostack, preserves_flags)
                    );
                    // Saves masks wherever the value is made longer again.
                    core::hint::assert_unchecked(value <= Self::MAX as u64);
                }
                value as Self
            }

            #[cfg(target_arch = "bpf")]
            #[inline(always)]
            unsafe fn store<const AT: usize>(self, start: *mut u8) {
                // SAFETY: the caller's contract.
                unsafe {
                    core::arch::asm!(
                        concat!("*(", stringify!($word), " *)({start} + {at}) = {value}"),
                        value = in(reg) u64::from(self),
                        start = in(reg) start,
                        at = const AT,
                        options(nostack, preserves_flags)
                    );
                }
            }

            #[cfg(not(target_arch = "bpf"))]
            unsafe fn load<const AT: usize>(start: *const u8) -> Self {
                // SAFETY: the caller's contract.
                unsafe { start.add(AT).cast::<Self>().read_unaligned() }
            }

            #[cfg(not(target_arch = "bpf"))]
            unsafe fn store<const AT: usize>(self, start: *mut u8) {
                // SAFETY: the caller's contract.
                unsafe { start.add(AT).cast::<Self>().write_unaligned(self) }
            }
        }
    )+};
}

words!(u8, u16, u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_end_where_the_frame_ends() {
        let mut bytes = [1_u8, 2, 3, 4, 5, 6];
        let range = bytes.as_mut_ptr_range();
        // SAFETY: the array outlives the packet and is used through it only.
        let packet = unsafe { Packet::new(range.start, range.end) };

        assert!(packet.header::<6>().is_some());
        assert!(packet.header::<7>().is_none());
        assert!(packet.header_at::<2>(4).is_some());
        assert!(packet.header_at::<2>(5).is_none());
        assert!(packet.header_at::<2>(1_000).is_none());
        assert!(packet.holds(6));
        assert!(!packet.holds(7));
    }

    #[test]
    fn fields_are_read_and_written_as_they_stand() {
        let mut bytes = [0_u8, 0x11, 0x22, 0x33, 0x44, 0];
        let range = bytes.as_mut_ptr_range();
        // SAFETY: the array outlives the packet and is used through it only.
        let header = unsafe { Packet::new(range.start, range.end) }.header::<6>().expect("six bytes");

        assert_eq!(header.read::<u32, 1>().to_be(), 0x1122_3344);
        header.write::<u16, 1>(0xaabb_u16.to_be());
        assert_eq!(header.read::<u8, 1>(), 0xaa);
        assert_eq!(bytes, [0, 0xaa, 0xbb, 0x33, 0x44, 0]);
    }
}
