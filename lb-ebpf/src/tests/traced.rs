//! The kernel that changes nothing.

use lb_common::{Trace, UNSETTLED};

use super::*;
use crate::traced::Traced;

const PREVIOUS: u32 = 1;
const CURRENT: u32 = 2;

/// Decides about a frame and writes down how.
fn traced(maps: Maps, frame: &mut [u8]) -> (Decision, Trace, Maps) {
    maps.buffer.set(frame.as_mut_ptr());
    maps.frame.set((0, frame.len()));
    let packet = maps.packet();
    let mut trace = Trace::EMPTY;
    // SAFETY: nobody else uses the trace until the kernel is gone.
    let kernel = unsafe { Traced::new(maps, &raw mut trace) };
    let decision = crate::run::<_, true>(&kernel, packet);
    kernel.note_decision(decision);
    (decision, trace, kernel.kernel)
}

fn unsettled() -> Maps {
    Maps { slot: CURRENT | UNSETTLED, previous: PREVIOUS, ..Maps::new(MODE_DR) }
}

#[test]
fn decision_is_the_same_and_nothing_is_counted() {
    for mode in [MODE_DR, MODE_NAT, MODE_LOCAL, 99] {
        let (mut traced_frame, mut frame) = (to_service(), to_service());
        let (decision, trace, maps) = traced(Maps::new(mode), &mut traced_frame);
        assert_eq!(decision, Maps::new(mode).run::<true>(&mut frame), "{mode}");
        assert_eq!(traced_frame, frame);
        assert_eq!(trace.verdict, decision.verdict as u32);
        assert!(maps.verdicts.borrow().is_empty());
        assert!(maps.counted.borrow().is_empty());
    }
}

#[test]
fn way_through_the_maps_is_written_down() {
    let (_, trace, _) = traced(Maps::new(MODE_DR), &mut to_service());
    let service = trace.service;
    assert_eq!(trace.found, Trace::FOUND_SERVICE | Trace::FOUND_LEASE | Trace::FOUND_SLOT);
    assert_eq!((service.ring, service.ring_size, service.previous), (3, 5, 4));
    assert_eq!((trace.lease, trace.current, trace.previous, trace.backend), (1, 1, 0, 1));
    assert!(trace.slot < 5);
    assert_eq!((trace.remembered, trace.would_remember), (0, 0));
    assert_eq!((trace.out, trace.out_through), (Trace::OUT_BACK, 0));

    let (_, trace, _) = traced(Maps::new(MODE_DR), &mut segment((CLIENT, 1), (VIP, 81)));
    assert_eq!(trace.found, Trace::FOUND_VIP | Trace::FOUND_LEASE);
}

#[test]
fn flows_are_neither_remembered_nor_renewed() {
    let (_, trace, mut maps) = traced(unsettled(), &mut to_service());
    assert_eq!((trace.current, trace.previous), (CURRENT | UNSETTLED, PREVIOUS));
    assert_eq!((trace.backend, trace.remembered, trace.would_remember), (CURRENT, 0, CURRENT));
    assert!(maps.flows.borrow().is_empty());

    maps.run::<true>(&mut to_service());
    let before = maps.flows.borrow().clone();
    maps.now_coarse += 1;
    let (_, trace, maps) = traced(maps, &mut to_service());
    assert_eq!((trace.backend, trace.remembered, trace.would_remember), (CURRENT, CURRENT, 0));
    assert_eq!((before.len(), &before), (1, &*maps.flows.borrow()));
}
