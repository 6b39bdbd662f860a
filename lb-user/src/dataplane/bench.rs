//! What measuring needs of the data plane.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{maps::MapData, programs::ProgramFd};
use lb_common::names;

use super::{
    DataplaneError, Program, XdpDataplane,
    batch::{self, Batch},
    maps::failed,
    xdp::load_error,
};
use crate::bench::memory::number;

impl XdpDataplane {
    /// The loaded program, for a tail call.
    pub(crate) fn program_fd(&mut self, program: Program) -> Result<ProgramFd, DataplaneError> {
        let loaded = program.of(&mut self.ebpf)?;
        let fd = loaded.fd().map_err(|error| load_error(error.into()))?;
        fd.try_clone().map_err(|error| load_error(error.into()))
    }

    /// What the kernel charges for the rings, in bytes.
    pub(crate) fn rings_memory(&self) -> Result<u64, DataplaneError> {
        let map = &self.maps.rings;
        let room = map.info().map_err(failed(names::RINGS, "inspect", ""))?.max_entries();
        let (mut keys, mut ids) = (vec![0_u32; room as usize], vec![0_u32; room as usize]);
        let mut behind = 0_u32;
        let mut batch = Batch {
            next: &raw mut behind as u64,
            keys: keys.as_mut_ptr() as u64,
            values: ids.as_mut_ptr() as u64,
            count: room,
            ..Batch::default()
        };
        // SAFETY: the addresses are of live buffers, of `room` elements each but for the one number of `next`.
        let result = unsafe { batch.run(batch::LOOKUP, map) };
        if let Err(error) = result
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(failed(names::RINGS, "read a batch from", 0)(error));
        }
        let mut sum = 0;
        for &id in ids.iter().take(batch.count as usize).filter(|id| **id != 0) {
            let ring = MapData::from_id(id).map_err(failed(names::RINGS, "open ring", id))?;
            let path = format!("/proc/self/fdinfo/{}", ring.fd().as_fd().as_raw_fd());
            let text = fs::read_to_string(path).map_err(failed(names::RINGS, "inspect ring", id))?;
            sum += number(&text, "memlock:").unwrap_or(0);
        }
        Ok(sum)
    }
}
