//! Which kernel modules the initramfs needs, in which order.

use std::collections::BTreeMap;

/// The modules of a kernel, by name.
#[derive(Debug, Default)]
pub(super) struct Modules {
    /// Name → its file and those it needs, relative to the folder with `modules.dep`.
    loadable: BTreeMap<String, Vec<String>>,
    builtin: Vec<String>,
}

impl Modules {
    /// From the texts of `modules.dep` and `modules.builtin`.
    pub(super) fn parse(dependencies: &str, builtin: &str) -> Self {
        let loadable = dependencies
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(file, needed)| {
                let files = std::iter::once(file).chain(needed.split_whitespace());
                (name(file), files.map(str::to_owned).collect())
            })
            .collect();
        Self { loadable, builtin: builtin.lines().map(name).collect() }
    }

    /// The files to load, in order, for some modules. `Err` names a module that the kernel does not have.
    pub(super) fn order<'a>(&self, wanted: &[&'a str]) -> Result<Vec<String>, &'a str> {
        let mut order = Vec::new();
        for &wanted in wanted {
            match self.loadable.get(wanted) {
                // depmod names what a module needs with the outermost last: the last is loaded first.
                Some(files) => {
                    for file in files.iter().rev() {
                        if !order.contains(file) {
                            order.push(file.clone());
                        }
                    }
                }
                None if self.builtin.iter().any(|builtin| builtin == wanted) => {}
                None => return Err(wanted),
            }
        }
        Ok(order)
    }
}

/// `kernel/fs/fuse/virtiofs.ko.xz` → `virtiofs`.
fn name(file: &str) -> String {
    let file = file.rsplit('/').next().unwrap_or(file);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_is_loaded_first_and_once() {
        let modules = Modules::parse(
            "kernel/a/virtiofs.ko: kernel/v/virtio.ko kernel/v/virtio_ring.ko kernel/a/fuse.ko\n\
             kernel/v/virtio.ko: kernel/v/virtio_ring.ko\n\
             kernel/v/virtio_ring.ko:\n\
             kernel/v/virtio-pci.ko.xz: kernel/v/virtio.ko kernel/v/virtio_ring.ko\n",
            "kernel/o/overlay.ko\n",
        );
        assert_eq!(
            modules.order(&["virtio_pci", "virtiofs", "overlay"]).expect("all are there"),
            [
                "kernel/v/virtio_ring.ko",
                "kernel/v/virtio.ko",
                "kernel/v/virtio-pci.ko.xz",
                "kernel/a/fuse.ko",
                "kernel/a/virtiofs.ko",
            ]
        );
        assert_eq!(modules.order(&["overlay", "9p"]), Err("9p"));
    }
}
