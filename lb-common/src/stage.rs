//! The programs of the object file: the pipeline in its variants, and its rare stages, which are programs of their own
//! so that they have a stack of their own.

/// A variant of the pipeline. Its discriminant is the row of its rare stages in `STAGES`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    /// As attached in native (driver) mode.
    Native,
    /// Compiled for generic mode, where packets keep their note of a partial checksum.
    Generic,
}

impl Variant {
    /// Every variant.
    pub const ALL: &'static [Self] = &[Self::Native, Self::Generic];

    /// The program that a packet meets first.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Native => "lb_xdp_native",
            Self::Generic => "lb_xdp_generic",
        }
    }
}

/// A stage that is a program of its own: where the pipeline goes on when it does not end.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// An ICMP error about a packet of a steered flow, on either way.
    IcmpError,
    /// A packet that is too big for the way to its backend.
    TooBig,
    /// A packet that carries another one, perhaps for this node's own backend.
    Decapsulate,
    /// A frame with VLAN tags.
    Tagged,
    /// A piece of a packet, on either way.
    Fragment,
    /// A packet that was decided about, and is to be logged.
    Log,
}

impl Stage {
    /// Every rare stage.
    pub const ALL: &'static [Self] =
        &[Self::IcmpError, Self::TooBig, Self::Decapsulate, Self::Tagged, Self::Fragment, Self::Log];
    /// The number of entries of `STAGES`.
    pub const SLOTS: u32 = (Self::ALL.len() * Variant::ALL.len()) as u32;

    /// The program of a variant of the stage.
    pub const fn program(self, variant: Variant) -> &'static str {
        match (self, variant) {
            (Self::IcmpError, Variant::Native) => "lb_icmp_error_native",
            (Self::IcmpError, Variant::Generic) => "lb_icmp_error_generic",
            (Self::TooBig, Variant::Native) => "lb_too_big_native",
            (Self::TooBig, Variant::Generic) => "lb_too_big_generic",
            (Self::Decapsulate, Variant::Native) => "lb_decapsulate_native",
            (Self::Decapsulate, Variant::Generic) => "lb_decapsulate_generic",
            (Self::Tagged, Variant::Native) => "lb_tagged_native",
            (Self::Tagged, Variant::Generic) => "lb_tagged_generic",
            (Self::Fragment, Variant::Native) => "lb_fragment_native",
            (Self::Fragment, Variant::Generic) => "lb_fragment_generic",
            (Self::Log, Variant::Native) => "lb_log_native",
            (Self::Log, Variant::Generic) => "lb_log_generic",
        }
    }

    /// The index in `STAGES` of the stage with the discriminant `stage`.
    #[inline(always)]
    pub const fn slot(stage: u32, variant: Variant) -> u32 {
        variant as u32 * Self::ALL.len() as u32 + stage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_of_every_variant_has_a_slot_and_a_program_of_its_own() {
        let pairs =
            || Variant::ALL.iter().flat_map(|variant| Stage::ALL.iter().map(move |stage| (*stage, *variant)));
        let slots: Vec<_> = pairs().map(|(stage, variant)| Stage::slot(stage as u32, variant)).collect();
        assert_eq!(slots, (0..Stage::SLOTS).collect::<Vec<_>>());
        let mut programs: Vec<_> = pairs().map(|(stage, variant)| stage.program(variant)).collect();
        programs.extend(Variant::ALL.iter().map(|variant| variant.program()));
        let before = programs.len();
        programs.sort_unstable();
        programs.dedup();
        assert_eq!(programs.len(), before);
    }
}
