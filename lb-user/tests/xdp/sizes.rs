//! How large the programs are on this kernel.

use lb_common::{Stage, Variant, names};

use crate::pool::Lent;

/// The verifier gives up at 1,000,000 instructions; another kernel's may follow more ways than this one's.
const MOST_VERIFIED: u32 = 750_000;

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn every_program_is_far_from_the_verifiers_limit() {
    let sizes = Lent::empty().sizes().expect("the kernel tells");
    // To be seen with --nocapture; docs/performance.md has them.
    println!("| program | verified instructions | instructions | bytes of machine code |");
    for size in &sizes {
        println!("| `{}` | {} | {} | {} |", size.name, size.verified, size.instructions, size.machine_code);
    }
    let stages =
        Variant::ALL.iter().flat_map(|variant| Stage::ALL.iter().map(|stage| stage.program(*variant)));
    let mut expected: Vec<&str> =
        Variant::ALL.iter().map(|variant| variant.program()).chain(stages).collect();
    expected.push(names::PROGRAM_EXPLAIN);
    expected.sort_unstable();
    assert_eq!(sizes.iter().map(|size| size.name.as_str()).collect::<Vec<_>>(), expected);
    for size in &sizes {
        // Every kernel that lb runs on tells the number (Linux 5.16).
        assert!((1..MOST_VERIFIED).contains(&size.verified), "{size:?}");
        assert!(size.instructions > 0, "{size:?}");
    }
}
