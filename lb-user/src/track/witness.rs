//! Asks witnesses, by ICMP echo, whether they can be reached: who reaches neither its peers nor the gateway is the one that
//! is cut off.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use surge_ping::{Client, Config, ICMP, PingIdentifier, PingSequence};
use tokio::{sync::mpsc, task::AbortHandle};
use tracing::debug;

use crate::{
    health::{Level, RiseFall, Schedule},
    time::Timestamp,
};

/// Time from question to question.
const INTERVAL: Duration = Duration::from_millis(400);
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_millis(300);
/// So many in a row must be missing.
const FALL: u32 = 2;

/// Who is asked, and from where.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Witness {
    /// Its address.
    pub address: IpAddr,
    /// The interface that questions go out of: the way of the VIPs' clients.
    pub interface: String,
    /// The address they come from, never a VIP; `None`: the kernel chooses.
    pub source: Option<IpAddr>,
}

/// A witness no longer answers, or does again. Before the first event it counts as one that does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessEvent {
    /// Which.
    pub witness: Witness,
    /// Whether it answers.
    pub answers: bool,
}

/// Asks until it is dropped, each witness in a task of its own.
#[derive(Debug)]
pub struct Witnesses {
    events: mpsc::Sender<WitnessEvent>,
    asked: HashMap<Witness, Asked>,
}

#[derive(Debug)]
struct Asked(AbortHandle);

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Witnesses {
    /// Events go to `events`.
    pub fn new(events: mpsc::Sender<WitnessEvent>) -> Self {
        Self { events, asked: HashMap::new() }
    }

    /// Makes `wanted` the witnesses that are asked; those that were go on. Call it inside a tokio runtime.
    pub fn set(&mut self, wanted: impl IntoIterator<Item = Witness>) {
        let mut before = std::mem::take(&mut self.asked);
        for witness in wanted {
            let asked = before.remove(&witness).unwrap_or_else(|| {
                Asked(tokio::spawn(ask(witness.clone(), self.events.clone())).abort_handle())
            });
            self.asked.insert(witness, asked);
        }
    }
}

async fn ask(witness: Witness, events: mpsc::Sender<WitnessEvent>) {
    let mut schedule = Schedule::new(Timestamp::now(), INTERVAL);
    let mut level = RiseFall::starting(1, FALL, Level::Up);
    let mut client = None;
    // The replies of several processes on a node are told apart by it.
    let identifier = PingIdentifier(std::process::id() as u16);
    for sequence in (0..=u16::MAX).cycle() {
        tokio::time::sleep(schedule.next().since(Timestamp::now())).await;
        let answer = answer(&witness, &mut client, identifier, PingSequence(sequence)).await;
        schedule.advance(Timestamp::now());
        if let Err(error) = &answer {
            debug!(witness = %witness.address, %error, "no answer");
        }
        if let Some(level) = level.record(answer.is_ok()) {
            let event = WitnessEvent { witness: witness.clone(), answers: level == Level::Up };
            if events.send(event).await.is_err() {
                return;
            }
        }
    }
}

async fn answer(
    witness: &Witness,
    client: &mut Option<Client>,
    identifier: PingIdentifier,
    sequence: PingSequence,
) -> Result<(), String> {
    let open = match client.take() {
        Some(open) => open,
        None => open(witness).map_err(|error| error.to_string())?,
    };
    let mut pinger = open.pinger(witness.address, identifier).await;
    pinger.timeout(TIMEOUT).ping(sequence, b"lb asks").await.map_err(|error| error.to_string())?;
    // After a failure a new socket is opened: the interface may be another one of the same name.
    *client = Some(open);
    Ok(())
}

fn open(witness: &Witness) -> std::io::Result<Client> {
    let kind = if witness.address.is_ipv4() { ICMP::V4 } else { ICMP::V6 };
    let mut config = Config::builder()
        .kind(kind)
        // The other kind needs a sysctl that few systems have.
        .sock_type_hint(socket2::Type::RAW)
        .interface(&witness.interface);
    if let Some(source) = witness.source {
        config = config.bind(SocketAddr::new(source, 0));
    }
    Client::new(&config.build())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next event, which must come.
    async fn next(events: &mut mpsc::Receiver<WitnessEvent>) -> WitnessEvent {
        tokio::time::timeout(Duration::from_secs(30), events.recv()).await.unwrap().unwrap()
    }

    #[tokio::test]
    #[ignore = "needs root: cargo xtask test"]
    async fn one_that_does_not_answer_is_told_of_and_one_that_does_is_not() {
        let (sender, mut events) = mpsc::channel(4);
        let mut witnesses = Witnesses::new(sender);
        let witness = |address: &str, interface: &str| Witness {
            address: address.parse().unwrap(),
            interface: interface.to_owned(),
            source: None,
        };
        let absent = [witness("127.0.0.1", "no-such-thing"), witness("::1", "no-such-thing")];
        witnesses.set([witness("127.0.0.1", "lo"), witness("::1", "lo")].into_iter().chain(absent.clone()));
        let mut told = vec![next(&mut events).await, next(&mut events).await];
        told.sort_by_key(|event| event.witness.address);
        assert_eq!(told, absent.map(|witness| WitnessEvent { witness, answers: false }));
        // Those that answer have been asked as often.
        assert_eq!(events.try_recv(), Err(mpsc::error::TryRecvError::Empty));
    }
}
