//! Who is told of which changes of state.

use std::{collections::BTreeSet, net::SocketAddr};

use super::{controller::Controller, router::Router};
use crate::{
    config::{Backend, HealthNotify, Service, SyncGroup},
    notify::{State as Told, Subject},
    vrrp::State,
};

impl Controller {
    /// Tells of the state of a virtual router and of its group, if they are others than was told last.
    pub(super) fn notify(&mut self, index: usize) {
        let router = &self.routers[index];
        let (name, priority) = (&router.config.name, router.priority);
        if let Some(state) = told(router) {
            let subject = Subject::Router(name.clone());
            self.edges.notifier.tell(&subject, state, priority, &router.config.notify);
        }
        let Some(group) = self.config.group_of(name) else { return };
        if let Some(state) = of_group(self.members(group).map(told)) {
            self.edges.notifier.tell(&Subject::Group(group.name.clone()), state, priority, &group.notify);
        }
    }

    /// Tells that virtual routers are no more.
    pub(super) fn notify_of_removal<'r>(&mut self, routers: impl Iterator<Item = &'r Router>) {
        for router in routers {
            let subject = Subject::Router(router.config.name.clone());
            self.edges.notifier.tell(&subject, Told::Stop, router.priority, &router.config.notify);
            self.edges.notifier.forget(&subject);
        }
    }

    /// Tells of the health of services and backends that have somebody to be told, as far as it is known and other than
    /// was told last.
    pub(super) fn notify_of_health(&mut self) {
        for service in &self.config.services {
            for backend in service.backends.iter().filter(|backend| backend.notify != HealthNotify::default())
            {
                let subject = backend_subject(service, backend);
                if let Some(is_up) = self.health.is_up(service, backend) {
                    self.edges.notifier.tell_health(&subject, is_up, &backend.notify);
                }
            }
            if service.notify != HealthNotify::default()
                && let Some(is_up) = self.health.has_quorum(service)
            {
                let subject = Subject::Service(service.name.clone());
                self.edges.notifier.tell_health(&subject, is_up, &service.notify);
            }
        }
    }

    /// Forgets the health of what is not configured any more.
    pub(super) fn forget_health(&mut self) {
        let mut known = BTreeSet::new();
        for service in &self.config.services {
            known.insert(Subject::Service(service.name.clone()));
            known.extend(service.backends.iter().map(|backend| backend_subject(service, backend)));
        }
        self.edges.notifier.retain_health(|subject| known.contains(subject));
    }

    fn members(&self, group: &SyncGroup) -> impl Iterator<Item = &Router> {
        self.routers.iter().filter(|router| group.routers.contains(&router.config.name))
    }
}

fn backend_subject(service: &Service, backend: &Backend) -> Subject {
    Subject::Backend(service.name.clone(), SocketAddr::new(backend.address, backend.port))
}

/// What is told of a virtual router; nothing before it has started.
fn told(router: &Router) -> Option<Told> {
    match router.state() {
        State::Owner | State::Leaving => Some(Told::Master),
        State::Backup => Some(Told::Backup),
        State::Fault => Some(Told::Fault),
        State::Stopped => router.started.then_some(Told::Stop),
    }
}

/// What is told of a group; nothing while its members start or stop one after the other.
fn of_group(members: impl Iterator<Item = Option<Told>>) -> Option<Told> {
    let members = members.collect::<Option<Vec<Told>>>()?;
    let all = |state| members.iter().all(|member| *member == state);
    let any = |state| members.contains(&state);
    match () {
        () if all(Told::Stop) => Some(Told::Stop),
        () if any(Told::Stop) => None,
        () if any(Told::Fault) => Some(Told::Fault),
        () if all(Told::Master) => Some(Told::Master),
        () => Some(Told::Backup),
    }
}

#[cfg(test)]
mod tests {
    use super::{Told::*, *};

    #[test]
    fn a_group_is_what_its_members_are_together() {
        let cases = [
            (vec![Some(Master), Some(Master)], Some(Master)),
            (vec![Some(Master), Some(Backup)], Some(Backup)),
            (vec![Some(Backup), Some(Backup)], Some(Backup)),
            (vec![Some(Master), Some(Fault)], Some(Fault)),
            (vec![Some(Stop), Some(Stop)], Some(Stop)),
            (vec![Some(Stop), Some(Master)], None),
            (vec![Some(Backup), None], None),
        ];
        for (members, expected) in cases {
            assert_eq!(of_group(members.iter().copied()), expected, "{members:?}");
        }
    }
}
