//! `lb vip release` and `lb vip claim`: what the operator ordered, and the answer once it is known what came of it.

use std::time::Duration;

use tokio::sync::oneshot;
use tracing::info;

use super::{controller::Controller, router::Router};
use crate::{
    api::Response,
    protocol::{Command, Event, RouterKey},
    time::Timestamp,
    vrrp::{Input, State},
};

/// How long the outcome of an order is waited for: longer than a hand-over takes.
const PATIENCE: Duration = Duration::from_secs(4);

/// What is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Release,
    Claim,
}

/// What became of an order for one virtual router.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    done: bool,
    words: String,
}

impl Outcome {
    fn done(router: &Router, words: &str) -> Self {
        Self { done: true, words: format!("{}: {words}", router.config.name) }
    }

    fn failed(router: &Router, words: &str) -> Self {
        Self { done: false, words: format!("{}: {words}", router.config.name) }
    }
}

/// The orders whose outcome is not known yet.
#[derive(Debug, Default)]
pub(super) struct Orders {
    pending: Vec<Pending>,
}

#[derive(Debug)]
struct Pending {
    order: Order,
    waiting: Vec<RouterKey>,
    outcomes: Vec<Outcome>,
    until: Timestamp,
    answer: oneshot::Sender<Response>,
}

impl Orders {
    /// When an order is waited for no longer.
    pub(super) fn next_timeout(&self) -> Option<Timestamp> {
        self.pending.iter().map(|pending| pending.until).min()
    }

    /// Takes what the protocol thread says, before it is noted with the virtual routers.
    pub(super) fn event(&mut self, event: &Event, routers: &[Router]) {
        for pending in &mut self.pending {
            let Some((key, outcome)) = outcome(pending.order, event, routers) else { continue };
            if let Some(position) = pending.waiting.iter().position(|waiting| *waiting == key) {
                pending.waiting.swap_remove(position);
                pending.outcomes.push(outcome);
            }
        }
        self.answer(|pending| pending.waiting.is_empty());
    }

    /// Answers what has been waited for long enough.
    pub(super) fn give_up(&mut self, now: Timestamp, routers: &[Router]) {
        for pending in self.pending.iter_mut().filter(|pending| pending.until <= now) {
            let waiting = routers.iter().filter(|router| pending.waiting.contains(&router.key));
            let outcome = |router: &Router| match pending.order {
                Order::Release => {
                    Outcome::failed(router, "still handing over; `lb status` shows what comes of it")
                }
                Order::Claim => Outcome::failed(router, &format!("not owner: {}", router.reason())),
            };
            pending.outcomes.extend(waiting.map(outcome));
            pending.waiting.clear();
        }
        self.answer(|pending| pending.waiting.is_empty());
    }

    fn answer(&mut self, known: impl Fn(&Pending) -> bool) {
        for pending in self.pending.extract_if(.., |pending| known(pending)) {
            let message =
                pending.outcomes.iter().map(|outcome| outcome.words.as_str()).collect::<Vec<_>>().join("\n");
            let done = pending.outcomes.iter().all(|outcome| outcome.done);
            // Whoever asked may be gone.
            let _ = pending.answer.send(if done {
                Response::Done { message }
            } else {
                Response::Error { message }
            });
        }
    }
}

/// What an event says about an order for its virtual router.
fn outcome(order: Order, event: &Event, routers: &[Router]) -> Option<(RouterKey, Outcome)> {
    let of = |key: &RouterKey| routers.iter().find(|router| router.key == *key);
    let (key, outcome) = match (order, event) {
        (Order::Release, Event::HandedOver { router, source }) => {
            (router, Outcome::done(of(router)?, &format!("{source} took the VIPs over")))
        }
        (Order::Release, Event::Kept { router }) => {
            (router, Outcome::failed(of(router)?, "nobody took the VIPs over: this node goes on as owner"))
        }
        (Order::Release, Event::BecameBackup { router, .. }) => {
            (router, Outcome::done(of(router)?, "released; no new owner has been heard"))
        }
        (Order::Claim, Event::BecameOwner { router, .. }) => {
            (router, Outcome::done(of(router)?, "owner now, with priority 254 until it is released"))
        }
        (_, Event::EnteredFault { router, .. }) => {
            (router, Outcome::failed(of(router)?, "went into fault meanwhile"))
        }
        _ => return None,
    };
    Some((*key, outcome))
}

impl Controller {
    /// Carries out an order for the virtual router of that name and its group, or for all.
    pub(super) fn order(&mut self, order: Order, name: Option<&str>, answer: oneshot::Sender<Response>) {
        // Members that left one after the other would be called back by those that have not yet.
        let group = name.and_then(|name| self.config.group_of(name));
        let chosen = |router: &&Router| {
            let together = group.is_some_and(|group| group.routers.contains(&router.config.name));
            together || name.is_none_or(|name| router.config.name == name)
        };
        let chosen: Vec<&Router> = self.routers.iter().filter(chosen).collect();
        if chosen.is_empty() {
            let names: Vec<&str> = self.routers.iter().map(|router| router.config.name.as_str()).collect();
            let message = match name {
                Some(name) if !names.is_empty() => {
                    format!("no virtual router is named {name:?}; there are {}", names.join(", "))
                }
                _ => "there is no virtual router".to_owned(),
            };
            let _ = answer.send(Response::Error { message });
            return;
        }
        let (mut waiting, mut outcomes) = (Vec::new(), Vec::new());
        for router in chosen {
            info!(router = %router.config.name, ?order, "ordered by the operator");
            match at_once(order, router) {
                Some(outcome) => outcomes.push(outcome),
                None => waiting.push(router.key),
            }
            let input = match order {
                Order::Release => Input::Release,
                Order::Claim => Input::Claim,
            };
            self.edges.protocol.send(Command::Tell(router.key, input));
        }
        let until = Timestamp::now() + PATIENCE;
        self.orders.pending.push(Pending { order, waiting, outcomes, until, answer });
        self.orders.answer(|pending| pending.waiting.is_empty());
    }
}

/// What is known of an order's outcome before it is carried out.
fn at_once(order: Order, router: &Router) -> Option<Outcome> {
    match (order, router.state()) {
        (Order::Claim, State::Owner) => {
            Some(Outcome::done(router, "owner already; its priority is 254 until it is released"))
        }
        (Order::Claim, State::Fault) => {
            Some(Outcome::failed(router, &format!("in fault, so it claims nothing ({})", router.reason())))
        }
        (Order::Claim, State::Stopped) => {
            Some(Outcome::failed(router, "has not started yet; `lb status` shows what it waits for"))
        }
        (Order::Release, State::Backup | State::Fault | State::Stopped) => Some(Outcome::done(
            router,
            &format!(
                "not owner here ({}); it will not take the VIPs from a living owner",
                router.state_name()
            ),
        )),
        (Order::Claim, State::Backup | State::Leaving) | (Order::Release, State::Owner | State::Leaving) => {
            None
        }
    }
}
