//! Back to how it was loaded: the verifier takes seconds for the program, and tests are many.

use std::path::PathBuf;

use lb_common::{BackendCounters, Device, Interface, names};

use super::{
    DataplaneError, XdpDataplane,
    maps::{Maps, failed, on_every_cpu},
};

impl XdpDataplane {
    /// Empties every map and sets the folder for pins, as if the program were loaded anew. What is attached stays so.
    pub fn reset(&mut self, pin_dir: impl Into<PathBuf>) -> Result<(), DataplaneError> {
        self.maps.clear()?;
        self.vips.clear();
        self.nat_replies.clear();
        self.local_services.clear();
        self.pin_dir = pin_dir.into();
        self.publish_change_of_services()
    }
}

impl XdpDataplane {
    /// As if the program had answered nobody of late.
    pub fn rest(&mut self) -> Result<(), DataplaneError> {
        self.maps.rest()
    }
}

impl Maps {
    fn rest(&mut self) -> Result<(), DataplaneError> {
        on_every_cpu(0).map_err(Into::into).and_then(|zeros| self.answers.set(0, zeros, 0)).map_err(failed(
            names::ANSWERS,
            "clear",
            0,
        ))
    }

    fn clear(&mut self) -> Result<(), DataplaneError> {
        // Named one by one, so that nobody forgets a new map here.
        let Self {
            vips,
            vips6,
            vip_filter,
            services,
            services6,
            service_ranges,
            directors,
            tunnel_sources,
            nat_replies,
            nat_replies6,
            interfaces,
            egress,
            devices,
            vlans,
            virtual_macs,
            fragments,
            // Written last, by the caller.
            settings: _,
            backends,
            leases,
            answers: _,
            verdicts,
            backend_counters,
            flows,
            // Emptied before each use.
            trace: _,
            rings: _,
            no_ring: _,
        } = self;
        vips.clear()?;
        vips6.clear()?;
        vip_filter.clear();
        services.clear()?;
        services6.clear()?;
        let ranges: Result<Vec<_>, _> = service_ranges.keys().collect();
        for range in ranges.map_err(failed(names::SERVICE_RANGES, "list", "all keys"))? {
            service_ranges.remove(&range).map_err(failed(names::SERVICE_RANGES, "delete", "a range"))?;
        }
        directors.clear()?;
        let sources: Result<Vec<_>, _> = tunnel_sources.keys().collect();
        for source in sources.map_err(failed(names::TUNNEL_SOURCES, "list", "all keys"))? {
            tunnel_sources.remove(&source).map_err(failed(names::TUNNEL_SOURCES, "delete", "a network"))?;
        }
        nat_replies.clear()?;
        nat_replies6.clear()?;
        for slot in 0..interfaces.len() {
            egress.set(slot, 0, None, 0).map_err(failed(names::EGRESS, "clear", slot))?;
            let none = Interface::default();
            interfaces.set(slot, none, 0).map_err(failed(names::INTERFACES, "clear", slot))?;
        }
        for place in 0..devices.len() {
            devices.set(place, Device::default(), 0).map_err(failed(names::DEVICES, "clear", place))?;
        }
        vlans.clear()?;
        virtual_macs.clear()?;
        fragments.clear()?;
        backends.clear();
        leases.clear();
        for index in 0..verdicts.len() {
            on_every_cpu(0)
                .map_err(Into::into)
                .and_then(|zeros| verdicts.set(index, zeros, 0))
                .map_err(failed(names::VERDICTS, "clear", index))?;
        }
        for id in 0..backend_counters.len() {
            on_every_cpu(BackendCounters::default())
                .map_err(Into::into)
                .and_then(|zeros| backend_counters.set(id, zeros, 0))
                .map_err(failed(names::BACKEND_COUNTERS, "clear", id))?;
        }
        flows.clear()?;
        self.rest()?;
        self.clear_rings()
    }

    fn clear_rings(&self) -> Result<(), DataplaneError> {
        let info = self.rings.info().map_err(failed(names::RINGS, "inspect", ""))?;
        let indexes: Vec<u32> = (0..info.max_entries()).collect();
        self.set_rings(&indexes, indexes.iter().map(|_| &self.no_ring))
    }
}
