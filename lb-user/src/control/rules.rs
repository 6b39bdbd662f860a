//! Policy rules that this daemon has in the kernel's list: brought to what they should be, whatever happened to them.

use std::collections::BTreeSet;

use tracing::{debug, info};

use super::controller::Controller;
use crate::config::Rule;

/// How the problems with wanted rules begin.
const PROBLEM: &str = "rule ";

/// What is known of the rules.
#[derive(Debug, Default)]
pub(super) struct KnownRules {
    /// Those that are there, as the kernel listed them; `None`: something happened since.
    there: Option<BTreeSet<Rule>>,
    /// Whether there may be any that are not wanted: an earlier daemon's at first.
    clean: bool,
}

impl KnownRules {
    /// Something happened that rules may have gone with.
    pub(super) fn look_again(&mut self) {
        self.there = None;
    }

    /// Whether a rule is there, as far as known.
    pub(super) fn has(&self, rule: &Rule) -> bool {
        self.there.as_ref().is_some_and(|there| there.contains(rule))
    }
}

impl Controller {
    /// Deletes the rules that should not be there: before the routes that they lead to go.
    pub(super) async fn remove_rules(&mut self, wanted: &BTreeSet<Rule>) -> bool {
        if wanted.is_empty() && self.own_rules.clean {
            return true;
        }
        if !self.list_rules().await {
            return false;
        }
        let there = self.own_rules.there.clone().unwrap_or_default();
        let mut all = true;
        for rule in there.difference(wanted) {
            let result = self.edges.own_rules.delete(rule).await;
            debug!(%rule, "policy rule removed");
            all &=
                self.problem(&format!("remove the rule {rule}"), result.map_err(|error| error.to_string()));
            self.own_rules.look_again();
        }
        self.own_rules.clean = all && wanted.is_empty();
        all
    }

    /// Adds the rules that are not there: after the routes that they lead to.
    pub(super) async fn add_rules(&mut self, wanted: &BTreeSet<Rule>) -> bool {
        let named: BTreeSet<String> = wanted.iter().map(name).collect();
        self.problems.retain(|what, _| !what.starts_with(PROBLEM) || named.contains(what));
        if wanted.is_empty() || !self.list_rules().await {
            return wanted.is_empty();
        }
        let there = self.own_rules.there.clone().unwrap_or_default();
        let mut all = true;
        for rule in wanted.difference(&there) {
            let result = self.edges.own_rules.add(rule).await;
            self.own_rules.look_again();
            if result.is_ok() {
                info!(%rule, "policy rule added");
            }
            all &= self.problem(&name(rule), result.map_err(|error| error.to_string()));
        }
        for rule in wanted.intersection(&there) {
            all &= self.problem(&name(rule), Ok::<(), String>(()));
        }
        // What `lb status` says is what the kernel says.
        self.list_rules().await && all
    }

    async fn list_rules(&mut self) -> bool {
        if self.own_rules.there.is_some() {
            return true;
        }
        let result = match self.edges.own_rules.list().await {
            Ok(rules) => {
                self.own_rules.there = Some(rules.into_iter().collect());
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        };
        self.problem("policy rules of lb", result)
    }
}

/// A rule among the problems.
fn name(rule: &Rule) -> String {
    format!("{PROBLEM}{rule}")
}
