//! The node's own network devices.

use crate::keys::{Be16, Mac};

/// What the program knows of a network device, by its index: the value of `DEVICES`.
///
/// A device is at the place [`Device::place`] says. A place that holds another device, or none, says nothing about the
/// one looked for.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Device {
    /// The kernel's index; 0 for an empty place.
    pub ifindex: u32,
    /// Its own address. Only what is for this address is steered or answered.
    pub mac: Mac,
    /// The VLAN it tags what it sends with (802.1Q); 0: it is no VLAN device.
    pub vlan: Be16,
    /// The index of the device below, if it is a VLAN device.
    pub parent: u32,
}

impl Device {
    /// How many places there are: a power of two.
    pub const PLACES: u32 = 4_096;

    /// Where a device is in `DEVICES`.
    #[inline(always)]
    pub const fn place(ifindex: u32) -> u32 {
        ifindex & (Self::PLACES - 1)
    }
}

#[cfg(feature = "user")]
mod pod {
    use super::Device;

    // SAFETY: `repr(C)` without padding, no pointers, any bit pattern is valid.
    unsafe impl aya::Pod for Device {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_no_padding_and_a_place() {
        assert_eq!(size_of::<Device>(), 16);
        assert!(Device::PLACES.is_power_of_two());
        assert_eq!(Device::place(Device::PLACES + 7), 7);
    }
}
