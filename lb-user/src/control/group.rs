//! What the other virtual routers of a group do when one of them becomes owner or backup. Faults and priorities need no
//! following: the members share their trackers, so they have these together.

use crate::{
    protocol::Event,
    vrrp::{BackupReason, Input},
};

/// What the others are told when a member of their group did this.
pub(super) fn follow(event: &Event, was_owner: bool) -> Option<Input> {
    match event {
        Event::BecameOwner { .. } => Some(Input::ClaimWithGroup),
        // One that followed is not followed.
        Event::BecameBackup { reason: BackupReason::Group, .. } => None,
        Event::BecameBackup { .. } if was_owner => Some(Input::YieldWithGroup),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{FaultCause, OwnerReason, RouterKey};

    #[test]
    fn members_follow_whoever_moves_first() {
        let router = RouterKey(1);
        let backup = |reason| Event::BecameBackup { router, reason };
        let cases = [
            (Event::BecameOwner { router, reason: OwnerReason::Alone }, false, Some(Input::ClaimWithGroup)),
            (backup(BackupReason::LeaseExpired), true, Some(Input::YieldWithGroup)),
            (backup(BackupReason::Released), true, Some(Input::YieldWithGroup)),
            (backup(BackupReason::Group), true, None),
            (backup(BackupReason::Started), false, None),
            (Event::EnteredFault { router, cause: FaultCause::Told }, true, None),
            (Event::Announce { router }, true, None),
        ];
        for (event, was_owner, input) in cases {
            assert_eq!(follow(&event, was_owner), input, "{event:?}");
        }
    }
}
