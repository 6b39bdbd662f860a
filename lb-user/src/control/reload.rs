//! Taking a configuration: the first, and every later one. A later one is applied whole or not at all.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use tracing::warn;

use super::{
    channels::Opened,
    controller::{Controller, StartError},
    desired::lease_of_router,
    router::Router,
    witness::witness_of,
};
use crate::{
    config::{self, Config, Transport, VirtualRouter},
    net::NetEvent,
    protocol::{Channel, Command, Plan},
    time::Timestamp,
    track::Witness,
};

impl Controller {
    /// Reads the configuration files again. What is wrong with it is the error, and then nothing has changed.
    pub(super) async fn reload(&mut self) -> Result<String, String> {
        // Whoever has just made an interface for it need not know when its news arrive here.
        let here = self.edges.netlink.snapshot().await.map_err(|error| error.to_string())?;
        self.net_event(NetEvent::Resync(here));
        let parsed = config::load_all(&self.config_paths).map_err(|errors| errors.to_string())?;
        parsed.check_host(&self.world.host_facts()).map_err(|errors| errors.to_string())?;
        let config = self.with_sources(parsed.config);
        if config == self.config {
            return Ok("the configuration has not changed".to_owned());
        }
        if config.daemon != self.config.daemon {
            return Err("[daemon] cannot change while lb runs; restart it instead".to_owned());
        }
        let opened = self.open_channels(&config).map_err(|error| error.to_string())?;
        for warning in &parsed.warnings {
            warn!("{warning}");
        }
        self.replace(config, opened);
        self.find_new_routes().await;
        self.reconcile().await;
        self.forget_health();
        self.notify_of_health();
        Ok("the new configuration is in force".to_owned())
    }

    /// The names of the configuration files.
    pub(super) fn config_files(&self) -> String {
        let names: Vec<_> = self.config_paths.iter().map(|path| path.display().to_string()).collect();
        names.join(", ")
    }

    /// Takes the first configuration.
    pub(super) fn configure(&mut self, now: Timestamp) -> Result<(), StartError> {
        let config = self.with_sources(self.config.clone());
        self.config = config.clone();
        let opened = self.open_channels(&config)?;
        self.take_routers(&config, opened);
        self.configure_checks(now);
        self.order_guardian();
        Ok(())
    }

    /// Fills in the sources of multicast that the configuration leaves to the interface.
    fn with_sources(&self, mut config: Config) -> Config {
        let vips: Vec<IpAddr> = config
            .virtual_routers
            .iter()
            .flat_map(|router| router.all_vips().map(|vip| vip.addr()))
            .collect();
        let facts = self.world.host_facts();
        for router in &mut config.virtual_routers {
            let interface = facts.interfaces.iter().find(|interface| interface.name == router.interface);
            let addresses = interface.into_iter().flat_map(|interface| &interface.addresses).map(IpNet::addr);
            let chosen = router.choose_source(addresses.filter(|address| !vips.contains(address)));
            if let Transport::Multicast { source, .. } = &mut router.transport {
                *source = source.or(chosen);
            }
        }
        config
    }

    fn replace(&mut self, config: Config, opened: Opened) {
        // Virtual routers whose leases may go on do so, under the lease number of their new place; the others leave and
        // come back.
        for index in 0..self.routers.len() {
            let router = &self.routers[index];
            if router.is_owner()
                && !config.virtual_routers.iter().any(|wanted| router.config.continues_as(wanted))
            {
                self.leave_flows_behind(index);
            }
        }
        self.take_routers(&config, opened);
        self.config = config;
        self.order_guardian();
        self.configure_checks(Timestamp::now());
        self.track();
    }

    fn take_routers(&mut self, config: &Config, opened: Opened) {
        let mut before = std::mem::take(&mut self.routers);
        for (index, wanted) in config.virtual_routers.iter().enumerate() {
            let mut router = match before.iter().position(|router| router.config.continues_as(wanted)) {
                Some(position) => {
                    let mut router = before.swap_remove(position);
                    let new_vip = |vip| !router.config.all_vips().any(|known| known.addr() == vip);
                    let has_new = wanted.all_vips().any(|vip| new_vip(vip.addr()));
                    router.config = wanted.clone();
                    if has_new && router.is_owner() {
                        router.announce_again(Timestamp::now());
                    }
                    router
                }
                None => self.new_router(wanted),
            };
            router.lease = lease_of_router(index);
            self.routers.push(router);
        }
        before
            .retain(|router| !config.virtual_routers.iter().any(|wanted| wanted.name == router.config.name));
        self.notify_of_removal(before.iter());
        let opened = self.note_channels(opened, config);
        self.tell_configuration(opened);
        self.open_detectors();
    }

    fn new_router(&mut self, config: &VirtualRouter) -> Router {
        self.next_key.0 += 1;
        Router::new(self.next_key, config)
    }

    /// Tells the protocol thread which virtual routers there are, and hands over the channels that were opened.
    pub(super) fn tell_configuration(&self, opened: Vec<Channel>) {
        let plan =
            |router: &Router| Plan { key: router.key, lease: router.lease, config: router.config.clone() };
        let routers = self.routers.iter().map(plan).collect();
        self.edges.protocol.send(Command::Configure { routers, opened });
    }

    fn configure_checks(&mut self, now: Timestamp) {
        let targets = self.health.configure(&self.config, &self.world, now);
        self.edges.checker.set(&targets);
        self.trackers.configure(&self.config, now);
        self.edges.runner.set(&self.config.track_scripts);
        self.edges.watcher.set(&self.config.track_processes, &self.config.track_files);
        let witnesses: BTreeSet<Witness> =
            self.config.virtual_routers.iter().filter_map(witness_of).collect();
        self.silent_witnesses.retain(|witness| witnesses.contains(witness));
        self.edges.witnesses.set(witnesses);
        self.tell_witnesses();
    }
}
