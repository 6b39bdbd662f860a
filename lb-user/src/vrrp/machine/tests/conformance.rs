//! The state tables of the RFCs, step by step: each row an input and everything that must come of it. Where this
//! machine goes beyond the tables, the row says so.

use super::*;

const HUNDREDTHS: Duration = Duration::from_millis(100);

struct Step {
    clock: u64,
    input: Input,
    actions: Vec<Action>,
    state: State,
    next: Option<u64>,
}

fn step(clock: u64, input: Input, actions: &[Action], state: State, next: Option<u64>) -> Step {
    Step { clock, input, actions: actions.to_vec(), state, next }
}

fn heard(priority: u8, interval: Duration, source: IpAddr) -> Input {
    Input::AdvertReceived { advert: Advert { advert_interval: interval, ..advert(priority) }, source }
}

#[track_caller]
fn follow(settings: Settings, steps: &[Step]) {
    let mut bench = Bench::with(settings);
    for (number, step) in steps.iter().enumerate() {
        let told = format!("step {} at {}: {:?}", number + 1, step.clock, step.input);
        assert_eq!(bench.input(step.clock, step.input.clone()), step.actions, "{told}");
        let (state, next) = (bench.machine.state(), bench.machine.next_timeout());
        assert_eq!((state, next), (step.state, step.next.map(at)), "{told}");
    }
}

fn sent(clock: u64) -> Input {
    Input::AdvertSent { sent: at(clock) }
}

const STARTED: Action = Action::BecomeBackup { reason: BackupReason::Started };

/// RFC 3768 §6.4 with priority 128: the skew is half a second whatever the interval.
#[test]
fn rfc_3768() {
    use State::{Backup, Owner, Stopped};
    let seconds = Duration::from_secs(1);
    let better = Action::BecomeBackup { reason: BackupReason::BetterOwner { priority: 200, source: LOWER } };
    follow(
        settings(),
        &[
            // §6.4.1 Initialize: not the address owner, so Backup with Master_Down_Interval.
            step(0, Input::Start, &[STARTED], Backup, Some(3500)),
            // §6.4.2 Backup: an advert of at least its priority resets the timer.
            step(1000, heard(128, seconds, LOWER), &[], Backup, Some(4500)),
            // A lower one is discarded, as it preempts.
            step(1500, heard(127, seconds, LOWER), &[], Backup, Some(4500)),
            step(3600, heard(200, seconds, LOWER), &[], Backup, Some(7100)),
            // Priority 0: Skew_Time.
            step(6700, heard(0, seconds, LOWER), &[], Backup, Some(7200)),
            // The timer fires: an advert, and gratuitous ARP once it is out.
            step(7200, Input::Timeout, &[send(128, 7300)], Backup, Some(8200)),
            step(7200, sent(7200), &[Action::BecomeOwner], Owner, Some(8200)),
            // §6.4.3 Master: the advert timer.
            step(8200, Input::Timeout, &[send(128, 10_100)], Owner, Some(9200)),
            step(8200, sent(8200), &[], Owner, Some(9200)),
            // Priority 0: an advert at once, and the timer anew. (Beyond: gratuitous ARP again.)
            step(
                8500,
                heard(0, seconds, LOWER),
                &[send(128, 11_100), Action::AnnounceAddresses],
                Owner,
                Some(9500),
            ),
            // A lower one: discarded by RFC 3768, answered by RFC 9568. (Beyond: gratuitous ARP again.)
            step(
                8800,
                heard(127, seconds, LOWER),
                &[send(128, 11_100), Action::AnnounceAddresses],
                Owner,
                Some(9800),
            ),
            // The same priority from a lower address: as a lower one.
            step(
                9100,
                heard(128, seconds, LOWER),
                &[send(128, 11_100), Action::AnnounceAddresses],
                Owner,
                Some(10_100),
            ),
            // A better one: Backup. (Beyond: a farewell, for a winner that has not heard this node.)
            step(9400, heard(200, seconds, LOWER), &[send(0, 11_100), better], Backup, Some(12_900)),
            // §6.4.2 Shutdown.
            step(9500, Input::Stop, &[Action::Stop], Stopped, None),
        ],
    );
}

/// RFC 9568 §6.4 with priority 128 and an own interval of 10 hundredths.
#[test]
fn rfc_9568() {
    use State::{Backup, Leaving, Owner, Stopped};
    let fast = Duration::from_millis(20);
    let better = Action::BecomeBackup { reason: BackupReason::BetterOwner { priority: 128, source: HIGHER } };
    follow(
        Settings { version: VrrpVersion::V3, advert_interval: HUNDREDTHS, ..settings() },
        &[
            // §6.4.1 Initialize (130): Active_Adver_Interval is its own, the timer Active_Down_Interval.
            step(0, Input::Start, &[STARTED], Backup, Some(350)),
            // §6.4.2 Backup (450): the sender's interval is learnt, the timer reset by it: 3 × 20 + 10 ms.
            step(100, heard(128, fast, HIGHER), &[], Backup, Some(170)),
            // (465) A lower one is discarded, and its interval with it.
            step(110, heard(127, HUNDREDTHS, HIGHER), &[], Backup, Some(170)),
            step(150, heard(130, HUNDREDTHS, HIGHER), &[], Backup, Some(500)),
            step(390, heard(130, HUNDREDTHS, HIGHER), &[], Backup, Some(740)),
            // (440) Priority 0: Skew_Time of the learnt interval.
            step(400, heard(0, HUNDREDTHS, HIGHER), &[], Backup, Some(450)),
            step(450, Input::Timeout, &[send(128, 460)], Backup, Some(550)),
            step(450, sent(450), &[Action::BecomeOwner], Owner, Some(550)),
            // §6.4.3 Active (605): the advert timer, by its own interval.
            step(550, Input::Timeout, &[send(128, 740)], Owner, Some(650)),
            step(550, sent(550), &[], Owner, Some(650)),
            // (710) Priority 0: an advert at once.
            step(560, heard(0, fast, HIGHER), &[send(128, 840), Action::AnnounceAddresses], Owner, Some(660)),
            // (760) A lower one: an advert at once. (Beyond: gratuitous ARP, not more often than every 200 ms.)
            step(565, heard(127, fast, HIGHER), &[send(128, 840)], Owner, Some(665)),
            step(665, Input::Timeout, &[send(128, 840)], Owner, Some(760)),
            // (725) The same priority and a greater address: Backup, with the sender's interval: 3 × 20 + 10 ms.
            step(700, heard(128, fast, HIGHER), &[send(0, 840), better], Backup, Some(770)),
            step(770, Input::Timeout, &[send(128, 780)], Backup, Some(870)),
            step(770, sent(770), &[Action::BecomeOwner], Owner, Some(870)),
            // (655) Shutdown: priority 0. (Beyond: it answers until another does.)
            step(800, Input::Stop, &[send(0, 1060), Action::HandOver], Leaving, Some(850)),
            step(
                840,
                heard(1, fast, LOWER),
                &[Action::HandedOver { successor: Some(LOWER) }, Action::Stop],
                Stopped,
                None,
            ),
        ],
    );
}

/// RFC 9568 §6.4.1 (105): the address owner is Active at once. Nobody is better, and Preempt_Mode is not asked.
#[test]
fn rfc_9568_address_owner() {
    use State::{Backup, Owner};
    follow(
        Settings {
            version: VrrpVersion::V3,
            priority: 255,
            preempt: false,
            advert_interval: HUNDREDTHS,
            ..settings()
        },
        &[
            step(0, Input::Start, &[STARTED, send(255, 10)], Backup, Some(100)),
            step(0, sent(0), &[Action::BecomeOwner], Owner, Some(100)),
            step(
                50,
                heard(254, HUNDREDTHS, HIGHER),
                &[send(255, 290), Action::AnnounceAddresses],
                Owner,
                Some(150),
            ),
        ],
    );
}

/// Preempt_Mode off: any living owner is respected, by both RFCs.
#[test]
fn without_preemption() {
    use State::Backup;
    let steps = [
        step(0, Input::Start, &[STARTED], Backup, Some(3500)),
        step(3000, heard(1, Duration::from_secs(1), LOWER), &[], Backup, Some(6500)),
    ];
    for version in [VrrpVersion::V2, VrrpVersion::V3] {
        follow(Settings { version, preempt: false, ..settings() }, &steps);
    }
}
