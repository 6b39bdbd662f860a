//! What doctor found, for people and for scripts.

use std::fmt;

use serde::Serialize;

/// A judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// There.
    Ok,
    /// Not there, and `run` or `test` needs it.
    Missing,
    /// Not there or not to be told, and nothing depends on it.
    #[serde(rename = "n/a")]
    NotApplicable,
}

/// One thing looked at.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    name: String,
    status: Status,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Check {
    pub(super) fn new(name: &str, status: Status, detail: String, remedy: Option<String>) -> Self {
        Self { name: name.to_owned(), status, detail, remedy }
    }

    pub(super) fn ok(name: &str, detail: String) -> Self {
        Self::new(name, Status::Ok, detail, None)
    }

    pub(super) fn missing(name: &str, detail: String, remedy: String) -> Self {
        Self::new(name, Status::Missing, detail, Some(remedy))
    }

    pub(super) fn not_applicable(name: &str, detail: String, remedy: Option<String>) -> Self {
        Self::new(name, Status::NotApplicable, detail, remedy)
    }
}

/// All of them, by section.
#[derive(Debug, Default)]
pub(super) struct Report {
    sections: Vec<(&'static str, Vec<Check>)>,
}

#[derive(Serialize)]
struct Json<'a> {
    ready: bool,
    sections: Vec<JsonSection<'a>>,
}

#[derive(Serialize)]
struct JsonSection<'a> {
    name: &'a str,
    checks: &'a [Check],
}

impl Report {
    pub(super) fn add(&mut self, section: &'static str, check: Check) {
        match self.sections.iter_mut().find(|(name, _)| *name == section) {
            Some((_, checks)) => checks.push(check),
            None => self.sections.push((section, vec![check])),
        }
    }

    /// Whether nothing that is needed is missing.
    pub(super) fn ready(&self) -> bool {
        self.missing() == 0
    }

    fn missing(&self) -> usize {
        let checks = self.sections.iter().flat_map(|(_, checks)| checks);
        checks.filter(|check| check.status == Status::Missing).count()
    }

    /// `{"ready": …, "sections": [{"name": …, "checks": [{"name", "status", "detail", "remedy"?}]}]}`.
    pub(super) fn json(&self) -> String {
        let sections = self.sections.iter().map(|(name, checks)| JsonSection { name, checks }).collect();
        let json = Json { ready: self.ready(), sections };
        serde_json::to_string_pretty(&json).unwrap_or_else(|error| {
            // Strings and booleans always have a JSON form.
            unreachable!("{error}")
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, checks) in &self.sections {
            writeln!(f, "{name}")?;
            for check in checks {
                let status = match check.status {
                    Status::Ok => "ok",
                    Status::Missing => "MISSING",
                    Status::NotApplicable => "n/a",
                };
                writeln!(f, "  {status:<8} {:<18} {}", check.name, check.detail)?;
                if let Some(remedy) = &check.remedy {
                    writeln!(f, "  {:<8} {:<18} → {remedy}", "", "")?;
                }
            }
        }
        match self.missing() {
            0 => writeln!(f, "ready: `cargo xtask run` and `cargo xtask test` can work here"),
            missing => writeln!(f, "not ready: {missing} missing, see → for what mends it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        report.add("kernel", Check::ok("release", "6.18.0".into()));
        report.add("build", Check::not_applicable("pktgen", "not in this kernel".into(), None));
        report.add("kernel", Check::new("BTF", Status::Ok, "there".into(), None));
        report
    }

    #[test]
    fn what_is_not_applicable_does_not_stop_anybody() {
        let mut report = report();
        assert!(report.ready());
        assert!(report.to_string().ends_with("can work here\n"), "{report}");
        report.add("build", Check::missing("bpf-linker", "nowhere".into(), "cargo xtask setup".into()));
        assert!(!report.ready());
        let text = report.to_string();
        assert!(text.contains("MISSING  bpf-linker") && text.contains("→ cargo xtask setup"), "{text}");
        assert!(text.ends_with("not ready: 1 missing, see → for what mends it\n"), "{text}");
    }

    #[test]
    fn scripts_get_the_same_as_json() {
        let json: serde_json::Value = serde_json::from_str(&report().json()).expect("it is JSON");
        assert_eq!(json["ready"], true);
        assert_eq!(json["sections"][0]["name"], "kernel");
        assert_eq!(json["sections"][0]["checks"][1]["name"], "BTF");
        assert_eq!(json["sections"][1]["checks"][0]["status"], "n/a");
        assert_eq!(json["sections"][1]["checks"][0].get("remedy"), None);
    }
}
