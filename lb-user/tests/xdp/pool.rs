//! Loaded programs, lent to one test after another: the kernel's verifier takes seconds for each.
//!
//! A test gets a program with empty maps and nobody else's. It loads one of its own ([`Lent::loaded`]) only if it needs
//! other options, or is about loading.

use std::{
    ops::{Deref, DerefMut},
    path::Path,
    sync::Mutex,
};

use lb::dataplane::{LoadOptions, XdpDataplane};

static IDLE: Mutex<Vec<XdpDataplane>> = Mutex::new(Vec::new());

/// A loaded program, given back when it is dropped.
pub(crate) struct Lent {
    /// There until it is dropped.
    dataplane: Option<XdpDataplane>,
    goes_back: bool,
}

/// Room for what tests put into the maps.
pub(crate) fn options() -> LoadOptions {
    LoadOptions { backends: 256, services: 256, flows: 16_384, ..LoadOptions::new("/nonexistent") }
}

impl Lent {
    /// A program with empty maps.
    pub(crate) fn empty() -> Self {
        Self::pinning_in("/nonexistent".as_ref())
    }

    /// The same, for attaching.
    pub(crate) fn pinning_in(folder: &Path) -> Self {
        let idle = IDLE.lock().expect("nobody panics with the lock").pop();
        let mut dataplane = idle.unwrap_or_else(|| XdpDataplane::load(options()).expect("the program loads"));
        dataplane.reset(folder).expect("every map can be emptied");
        Self { dataplane: Some(dataplane), goes_back: true }
    }

    /// A program of the test's own, unloaded when it is dropped.
    pub(crate) fn loaded(options: LoadOptions) -> Self {
        let dataplane = XdpDataplane::load(options).expect("the program loads");
        Self { dataplane: Some(dataplane), goes_back: false }
    }
}

impl Deref for Lent {
    type Target = XdpDataplane;

    fn deref(&self) -> &XdpDataplane {
        self.dataplane.as_ref().expect("it is there until it is dropped")
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut XdpDataplane {
        self.dataplane.as_mut().expect("it is there until it is dropped")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(dataplane) = self.dataplane.take().filter(|_| self.goes_back && !std::thread::panicking())
        {
            IDLE.lock().expect("nobody panics with the lock").push(dataplane);
        }
    }
}
