//! The flow table, read and cleared in batches: one system call for many entries, where iterating would take two for each.

use std::io;

use aya::{
    Ebpf,
    maps::{Map, MapData},
};
use lb_common::{FlowKey, FlowState, names};

use super::{
    DataplaneError,
    batch::{self, Batch},
    maps::{failed, missing},
};

/// How far a look through all flows has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowCursor {
    /// The first bucket not read yet; `None` at the beginning.
    pub(super) next: Option<u32>,
    /// Whether all have been read.
    pub(super) finished: bool,
}

impl FlowCursor {
    /// Whether all flows have been read.
    pub fn finished(&self) -> bool {
        self.finished
    }
}

/// `FLOWS`.
pub(super) struct Flows {
    map: MapData,
}

impl Flows {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, DataplaneError> {
        match ebpf.take_map(names::FLOWS) {
            Some(Map::LruHashMap(map)) => Ok(Self { map }),
            _ => Err(missing(names::FLOWS)),
        }
    }

    /// [`Dataplane::read_flows`](super::Dataplane::read_flows)
    pub(super) fn read(
        &self,
        cursor: &mut FlowCursor,
        most: u32,
    ) -> Result<Vec<(FlowKey, FlowState)>, DataplaneError> {
        if cursor.finished {
            return Ok(Vec::new());
        }
        // A batch ends with a whole bucket. Buckets are as many as entries, so that few have more than a handful.
        let mut room = most.max(64) as usize;
        loop {
            let mut keys = vec![FlowKey::default(); room];
            let mut values = vec![FlowState::default(); room];
            let (first, mut behind) = (cursor.next.unwrap_or(0), 0_u32);
            let mut batch = Batch {
                from: if cursor.next.is_some() { &raw const first as u64 } else { 0 },
                next: &raw mut behind as u64,
                keys: keys.as_mut_ptr() as u64,
                values: values.as_mut_ptr() as u64,
                count: room as u32,
                ..Batch::default()
            };
            // SAFETY: the four addresses are of live buffers: one bucket number each, and `room` keys and values.
            let result = unsafe { batch.run(batch::LOOKUP, &self.map) };
            match result {
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && room < 1 << 20 => {
                    room *= 2;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => cursor.finished = true,
                Err(error) => return Err(failed(names::FLOWS, "read a batch from", first)(error)),
                Ok(()) => cursor.next = Some(behind),
            }
            return Ok(keys.into_iter().zip(values).take(batch.count as usize).collect());
        }
    }

    /// [`Dataplane::forget_flows`](super::Dataplane::forget_flows)
    pub(super) fn forget(&self, mut keys: &[FlowKey]) -> Result<(), DataplaneError> {
        while !keys.is_empty() {
            let count = u32::try_from(keys.len()).unwrap_or(u32::MAX);
            let mut batch = Batch { keys: keys.as_ptr() as u64, count, ..Batch::default() };
            // SAFETY: `count` keys are there, which the kernel only reads.
            match unsafe { batch.run(batch::DELETE, &self.map) } {
                Ok(()) => return Ok(()),
                // One was gone already; the kernel stopped there.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    keys = keys.get(batch.count as usize + 1..).unwrap_or_default();
                }
                Err(error) => return Err(failed(names::FLOWS, "delete a batch of", count)(error)),
            }
        }
        Ok(())
    }

    /// Forgets all.
    pub(super) fn clear(&self) -> Result<(), DataplaneError> {
        let mut cursor = FlowCursor::default();
        while !cursor.finished {
            let keys: Vec<FlowKey> = self.read(&mut cursor, 1_024)?.into_iter().map(|(key, _)| key).collect();
            self.forget(&keys)?;
        }
        Ok(())
    }
}
