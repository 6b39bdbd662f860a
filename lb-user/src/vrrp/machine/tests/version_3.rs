//! The interval is the owner's, in hundredths of a second, and backups learn it.

use super::*;

fn version_3(milliseconds: u64) -> Bench {
    let advert_interval = Duration::from_millis(milliseconds);
    Bench::with(Settings { version: VrrpVersion::V3, advert_interval, ..settings() })
}

impl Bench {
    fn hear_every(&mut self, clock: u64, priority: u8, milliseconds: u64) {
        let advert = Advert { advert_interval: Duration::from_millis(milliseconds), ..advert(priority) };
        assert_eq!(self.input(clock, Input::AdvertReceived { advert, source: HIGHER }), []);
    }
}

#[test]
fn a_backup_waits_by_its_own_interval_until_it_has_learnt_the_owners() {
    let mut bench = version_3(100);
    bench.input(0, Input::Start);
    bench.is(State::Backup, Some(350), 0);
    bench.hear_every(10, 200, 20);
    bench.is(State::Backup, Some(10 + 70), 0);
    bench.hear_every(30, 200, 40_950);
    assert_eq!(bench.machine.next_timeout(), Some(Timestamp(30_000_000 + 143_325_000_000)));
    // Nothing is believed to be shorter than it can be.
    bench.hear_every(40, 200, 0);
    bench.is(State::Backup, Some(40 + 35), 0);
}

#[test]
fn what_does_not_count_is_not_learnt() {
    let mut bench = version_3(100);
    bench.input(0, Input::Start);
    bench.hear_every(10, 127, 1000);
    bench.is(State::Backup, Some(350), 0);
    // A farewell has the leaving owner's interval, but is not heeded for another reason here.
    bench.hear_every(20, 0, 1000);
    bench.is(State::Backup, Some(350), 0);
}

#[test]
fn the_skew_after_a_farewell_is_a_part_of_the_learnt_interval() {
    let mut bench = version_3(100);
    bench.input(0, Input::Start);
    for clock in [10, 400, 800, 1200] {
        bench.hear_every(clock, 200, 400);
    }
    bench.hear_every(1210, 0, 400);
    bench.is(State::Backup, Some(1210 + 200), 0);
}

#[test]
fn as_owner_it_goes_by_its_own_interval_and_so_does_its_lease() {
    let mut bench = version_3(100);
    bench.input(0, Input::Start);
    bench.hear_every(10, 200, 20);
    assert_eq!(bench.input(80, Input::Timeout), [send(128, 90)]);
    bench.sent(80);
    bench.is(State::Owner, Some(180), 80 + 290);
    // What it has learnt comes back with the next owner only; a lost lease means the longest it knows of.
    assert_eq!(
        bench.input(370, Input::Timeout),
        [Action::BecomeBackup { reason: BackupReason::LeaseExpired }]
    );
    bench.is(State::Backup, Some(370 + 350), 0);
    bench.hear_every(380, 200, 400);
    bench.input(390, FAULT);
    bench.input(400, Input::FaultCleared);
    bench.is(State::Backup, Some(400 + 1400), 0);
    // A new start knows nothing.
    bench.input(410, Input::Stop);
    bench.input(420, Input::Start);
    bench.is(State::Backup, Some(420 + 350), 0);
}

#[test]
fn an_owner_that_yields_learns_from_whom_it_yields_to() {
    let mut bench = version_3(100);
    bench.input(0, Input::Start);
    bench.input(350, Input::Timeout);
    bench.sent(350);
    let advert = Advert { advert_interval: Duration::from_millis(20), ..advert(200) };
    bench.input(360, Input::AdvertReceived { advert, source: HIGHER });
    bench.is(State::Backup, Some(360 + 70), 0);
}

#[test]
fn at_the_shortest_interval_a_claim_has_two_milliseconds() {
    let mut bench = version_3(10);
    bench.input(0, Input::Start);
    assert_eq!(bench.input(36, Input::Timeout), [send(128, 38)]);
    assert_eq!(bench.input(38, Input::AdvertSent { sent: at(36) }), [Action::BecomeOwner]);
    bench.is(State::Owner, Some(46), 36 + 29);
}

#[test]
fn version_2_learns_nothing() {
    let mut bench = Bench::backup();
    bench.hear_every(100, 200, 10_000);
    bench.is(State::Backup, Some(100 + 3500), 0);
}

#[test]
fn another_with_a_shorter_interval_does_not_cut_the_wait_for_who_was_heard_before() {
    let mut bench = version_3(10);
    bench.input(0, Input::Start);
    bench.hear_every(1, 200, 1000);
    let advert = Advert { advert_interval: Duration::from_millis(10), ..advert(200) };
    bench.input(20, Input::AdvertReceived { advert, source: LOWER });
    bench.is(State::Backup, Some(1 + 3000), 0);
}
