//! The one place that knows the shape of `lb status --json`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::LabError;

/// What an `lb` says about itself.
#[derive(Clone, Debug)]
pub struct DaemonStatus {
    json: Value,
}

/// A backend as `lb` sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendStatus {
    /// The service it belongs to.
    pub service: String,
    /// Its address.
    pub address: String,
    /// Such as "up" and "down".
    pub state: String,
}

impl DaemonStatus {
    /// Reads the output of `lb status --json`.
    pub(crate) fn parse(text: &str, node: &str) -> Result<Self, LabError> {
        let json: Value = serde_json::from_str(text).map_err(|error| LabError::Unexpected {
            what: format!("`lb status --json` on {node}"),
            detail: error.to_string(),
        })?;
        Ok(Self { json })
    }

    /// The state of every virtual router by name: "owner", "backup", "fault" or "init".
    pub fn virtual_routers(&self) -> BTreeMap<&str, &str> {
        items(&self.json, "virtual_routers")
            .filter_map(|router| Some((router["name"].as_str()?, router["state"].as_str()?)))
            .collect()
    }

    /// Whether it owns the VIPs of every virtual router it has, and has one.
    pub fn is_owner(&self) -> bool {
        self.all_are("owner")
    }

    /// Whether all its virtual routers are in `state`, and there is one.
    pub fn all_are(&self, state: &str) -> bool {
        let routers = self.virtual_routers();
        !routers.is_empty() && routers.values().all(|is| *is == state)
    }

    /// Adverts that passed every check, over all virtual routers.
    pub fn adverts_received(&self) -> u64 {
        self.advert_counters().get("adverts_received").copied().unwrap_or_default()
    }

    /// Adverts that were refused, by reason, over all virtual routers.
    pub fn refused_adverts(&self) -> BTreeMap<String, u64> {
        let mut sum = self.advert_counters();
        // Its neighbours in that object are not refusals.
        sum.retain(|name, _| !name.starts_with("adverts_"));
        sum
    }

    fn advert_counters(&self) -> BTreeMap<String, u64> {
        let mut sum = BTreeMap::new();
        for router in items(&self.json, "virtual_routers") {
            add(&mut sum, &router["counters"]);
        }
        sum
    }

    /// The process number of its guardian on the node, while there is one, and how many it has lost.
    pub fn guardian(&self) -> (Option<u64>, u64) {
        let guardian = &self.json["guardian"];
        (guardian["pid"].as_u64(), guardian["lost"].as_u64().unwrap_or_default())
    }

    /// Packets by verdict.
    pub fn verdicts(&self) -> BTreeMap<String, u64> {
        let mut sum = BTreeMap::new();
        add(&mut sum, &self.json["verdicts"]);
        sum
    }

    /// Unsettled slots and remembered flows of all services.
    pub fn remembered(&self) -> (u64, u64) {
        let sum = |key: &str| items(&self.json, "services").filter_map(|service| service[key].as_u64()).sum();
        (sum("unsettled_slots"), sum("remembered_flows"))
    }

    /// The backends of all services.
    pub fn backends(&self) -> Vec<BackendStatus> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        items(&self.json, "services")
            .flat_map(|service| {
                items(service, "backends").map(move |backend| BackendStatus {
                    service: text(&service["name"]),
                    address: text(&backend["address"]),
                    state: text(&backend["state"]),
                })
            })
            .collect()
    }

    /// Whether every backend is up, and there is one.
    pub fn all_backends_up(&self) -> bool {
        let backends = self.backends();
        !backends.is_empty() && backends.iter().all(|backend| backend.state == "up")
    }

    /// The whole answer, for messages.
    pub fn text(&self) -> String {
        self.json.to_string()
    }
}

fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

fn add(sum: &mut BTreeMap<String, u64>, counters: &Value) {
    for (name, count) in counters.as_object().into_iter().flatten() {
        if let Some(count) = count.as_u64() {
            *sum.entry(name.clone()).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = r#"{
        "virtual_routers": [{"name": "VI_1", "state": "owner", "counters": {"adverts_sent": 5, "bad_ttl": 2}}],
        "verdicts": {"steered": 7},
        "services": [{"name": "web", "backends": [{"address": "172.20.128.2", "state": "up", "port": 80}]}]
    }"#;

    #[test]
    fn the_agreed_shape_is_understood() {
        let status = DaemonStatus::parse(STATUS, "node-a").unwrap();
        assert!(status.is_owner());
        assert!(status.all_backends_up());
        assert_eq!(status.refused_adverts().into_iter().collect::<Vec<_>>(), [("bad_ttl".to_owned(), 2)]);
        assert_eq!(status.verdicts()["steered"], 7);
        assert_eq!(status.backends()[0].address, "172.20.128.2");
    }

    #[test]
    fn a_daemon_without_virtual_routers_owns_nothing() {
        let status = DaemonStatus::parse("{}", "node-a").unwrap();
        assert!(!status.is_owner());
        assert!(!status.all_backends_up());
    }
}
