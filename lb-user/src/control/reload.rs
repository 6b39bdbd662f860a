//! Taking a configuration: the first, and every later one. A later one is applied whole or not at all.

use tracing::warn;

use super::{
    channel::Channel,
    controller::{Controller, StartError},
    desired::lease_of_router,
    router::Router,
};
use crate::{
    config::{self, Config},
    net::VrrpSocket,
    time::Timestamp,
    vrrp::Input,
};

impl Controller {
    /// Reads the configuration file again. What is wrong with it is the error, and then nothing has changed.
    pub(super) async fn reload(&mut self) -> Result<String, String> {
        let parsed = config::load(&self.config_path).map_err(|errors| errors.to_string())?;
        parsed.check_host(&self.world.host_facts()).map_err(|errors| errors.to_string())?;
        if parsed.config == self.config {
            return Ok("the configuration has not changed".to_owned());
        }
        if parsed.config.daemon != self.config.daemon {
            return Err("[daemon] cannot change while lb runs; restart it instead".to_owned());
        }
        let channels = self.open_channels(&parsed.config).map_err(|error| error.to_string())?;
        for warning in &parsed.warnings {
            warn!("{warning}");
        }
        self.replace(parsed.config, channels);
        self.find_new_routes().await;
        self.reconcile().await;
        Ok("the new configuration is in force".to_owned())
    }

    /// Takes the first configuration.
    pub(super) fn configure(&mut self, now: Timestamp) -> Result<(), StartError> {
        self.channels = self.open_channels(&self.config)?;
        let routers = self.config.virtual_routers.iter().enumerate();
        self.routers = routers.map(|(index, router)| Router::new(router, lease_of_router(index))).collect();
        self.configure_checks(now);
        Ok(())
    }

    /// Opens what `config` needs and is not open.
    fn open_channels(&self, config: &Config) -> Result<Vec<Channel>, StartError> {
        let mut opened: Vec<Channel> = Vec::new();
        for router in &config.virtual_routers {
            if !self.channels.iter().chain(&opened).any(|channel| channel.serves(router)) {
                let index = self.world.link_named(&router.interface).map_or(0, |link| link.index);
                opened.push(Channel::open(router, index)?);
            }
        }
        Ok(opened)
    }

    /// Opens anew what was bound to an interface that was deleted and made again.
    pub(super) fn reopen_channels(&mut self) {
        let mut problems = Vec::new();
        for channel in &mut self.channels {
            let Some(link) = self.world.link_named(&channel.interface) else { continue };
            if link.index == channel.index {
                continue;
            }
            match VrrpSocket::open(&channel.interface, channel.source) {
                Ok(socket) => {
                    channel.socket = socket;
                    channel.index = link.index;
                }
                // The address comes back later than the interface; its arrival is the next attempt.
                Err(error) => problems.push(error.to_string()),
            }
        }
        self.problem("VRRP sockets", problems.is_empty().then_some(()).ok_or(problems.join("; ")));
    }

    fn replace(&mut self, config: Config, opened: Vec<Channel>) {
        // Virtual routers that say the same as before go on undisturbed, under the lease number of their new
        // place; the others leave and come back.
        let mut old = std::mem::take(&mut self.routers);
        let keeps = |router: &Router| config.virtual_routers.contains(&router.config);
        for index in 0..old.len() {
            if !keeps(&old[index]) {
                std::mem::swap(&mut self.routers, &mut old);
                self.input(index, Input::Stop);
                std::mem::swap(&mut self.routers, &mut old);
            }
        }
        let mut kept: Vec<Router> = old.into_iter().filter(keeps).collect();
        for (index, wanted) in config.virtual_routers.iter().enumerate() {
            let lease = lease_of_router(index);
            let router = match kept.iter().position(|router| router.config == *wanted) {
                Some(position) => {
                    let mut router = kept.swap_remove(position);
                    router.lease = lease;
                    router
                }
                None => Router::new(wanted, lease),
            };
            self.routers.push(router);
        }
        self.channels.extend(opened);
        self.channels.retain(|channel| config.virtual_routers.iter().any(|router| channel.serves(router)));
        self.config = config;
        for index in 0..self.routers.len() {
            self.write_lease(index, self.routers[index].machine.lease_expiry());
        }
        self.configure_checks(Timestamp::now());
        self.track();
    }

    fn configure_checks(&mut self, now: Timestamp) {
        let targets = self.health.configure(&self.config, &self.world, now);
        self.edges.checker.set(&targets);
        self.trackers.configure(&self.config, now);
        self.edges.runner.set(&self.config.track_scripts);
        self.edges.watcher.set(&self.config.track_processes, &self.config.track_files);
    }
}
