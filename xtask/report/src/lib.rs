//! What a benchmark found, and on which machine: `lb-bench` and `xtask` write it, `xtask` shows it as a table, JSON or a
//! page with plots.

mod machine;
pub mod plan;
mod summary;

use serde::{Deserialize, Serialize};

pub use machine::{Machine, load};
pub use summary::Summary;

/// The title of a group with a row for each program: how many instructions the verifier followed.
pub const VERIFIED: &str = "Instructions that the verifier followed";
/// Likewise: of how many instructions it is.
pub const LOADED: &str = "Instructions of the programs";

/// Everything about one run of a benchmark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// For instance `Cost of one packet`.
    pub title: String,
    /// Where it ran.
    pub machine: Machine,
    /// How often everything was measured.
    pub rounds: u32,
    /// What one has to know to read the numbers, a sentence each.
    pub notes: Vec<String>,
    /// The results.
    pub groups: Vec<Group>,
}

/// Rows that belong together: one unit, and the same rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// A heading.
    pub title: String,
    /// Of the numbers, for instance `ns`.
    pub unit: String,
    /// The row that the others are given as multiples of, each round by itself.
    pub reference: Option<String>,
    /// One for each thing that was measured.
    pub rows: Vec<Row>,
}

/// One thing that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Unique in its group.
    pub name: String,
    /// A number for each round, in their order; none if it was not measured.
    pub samples: Vec<f64>,
    /// The samples' middle and ends.
    pub summary: Option<Summary>,
    /// Multiples of the group's reference row.
    pub times_reference: Option<Summary>,
    /// What should be reached.
    pub goal: Option<Goal>,
    /// Why it was not measured, or what is special about it.
    pub note: Option<String>,
}

/// What a row should reach.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Goal {
    /// The row of the same group that it is compared with; none: the number itself.
    pub compared_with: Option<String>,
    /// The bound.
    pub bound: Bound,
    /// What there is: the number, or the median of the ratios of each round.
    pub is: Option<f64>,
}

/// Which way a goal is meant.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// This row is at most so many times the other.
    AtMost(f64),
    /// The other is at least so many times this row: this one is so many times cheaper.
    Cheaper(f64),
    /// This row is at least so many times the other.
    AtLeast(f64),
}

impl Goal {
    /// Not yet compared.
    pub fn new(bound: Bound, compared_with: Option<&str>) -> Self {
        Self { compared_with: compared_with.map(str::to_owned), bound, is: None }
    }

    /// Whether it is reached, once there is something to compare.
    pub fn reached(&self) -> Option<bool> {
        let is = self.is?;
        Some(match self.bound {
            Bound::AtMost(most) => is <= most,
            Bound::Cheaper(least) | Bound::AtLeast(least) => is >= least,
        })
    }
}

impl Row {
    /// A row that was measured.
    pub fn new(name: impl Into<String>, samples: Vec<f64>) -> Self {
        let summary = Summary::of(samples.iter().copied());
        Self { name: name.into(), samples, summary, times_reference: None, goal: None, note: None }
    }

    /// A row that was not, and why.
    pub fn skipped(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self { note: Some(why.into()), ..Self::new(name, Vec::new()) }
    }
}

impl Group {
    /// Compares the rows with each other.
    pub fn new(
        title: impl Into<String>,
        unit: impl Into<String>,
        reference: Option<&str>,
        mut rows: Vec<Row>,
    ) -> Self {
        let compared: Vec<_> = rows
            .iter()
            .map(|row| {
                let times = reference.and_then(|name| row.times(&rows, name));
                let is = row.goal.as_ref().and_then(|goal| goal.measure(row, &rows));
                (times, is)
            })
            .collect();
        for (row, (times, is)) in rows.iter_mut().zip(compared) {
            row.times_reference = times;
            if let Some(goal) = &mut row.goal {
                goal.is = is;
            }
        }
        Self { title: title.into(), unit: unit.into(), reference: reference.map(str::to_owned), rows }
    }
}

impl Row {
    /// How many times the row of that name this is, round by round.
    fn times(&self, rows: &[Self], name: &str) -> Option<Summary> {
        let other = rows.iter().find(|row| row.name == name)?;
        ratios(&self.samples, &other.samples)
    }
}

impl Goal {
    fn measure(&self, row: &Row, rows: &[Row]) -> Option<f64> {
        let Some(name) = &self.compared_with else { return Some(row.summary?.median) };
        let other = rows.iter().find(|row| row.name == *name)?;
        let ratio = match self.bound {
            Bound::AtMost(_) | Bound::AtLeast(_) => ratios(&row.samples, &other.samples),
            Bound::Cheaper(_) => ratios(&other.samples, &row.samples),
        };
        Some(ratio?.median)
    }
}

fn ratios(these: &[f64], others: &[f64]) -> Option<Summary> {
    if these.len() != others.len() {
        return None;
    }
    Summary::of(std::iter::zip(these, others).map(|(this, other)| this / other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(is: Option<f64>, should: f64) -> bool {
        is.is_some_and(|is| (is - should).abs() < 1e-9)
    }

    #[test]
    fn ratios_are_within_a_round() {
        let goal = |bound| Some(Goal::new(bound, Some("slow")));
        let rows = vec![
            Row { goal: goal(Bound::Cheaper(1.5)), ..Row::new("fast", vec![10.0, 2.0]) },
            Row { goal: goal(Bound::AtMost(0.4)), ..Row::new("also", vec![10.0, 2.0]) },
            Row::new("slow", vec![20.0, 4.0]),
            Row::skipped("absent", "the kernel has none"),
        ];
        let group = Group::new("", "ns", Some("slow"), rows);
        let times = group.rows[0].times_reference.expect("both were measured");
        assert!((times.least - 0.5).abs() < 1e-9 && (times.most - 0.5).abs() < 1e-9);
        let goals: Vec<&Goal> = group.rows.iter().filter_map(|row| row.goal.as_ref()).collect();
        assert!(near(goals[0].is, 2.0) && near(goals[1].is, 0.5));
        assert_eq!((goals[0].reached(), goals[1].reached()), (Some(true), Some(false)));
        assert_eq!((group.rows[3].summary, group.rows[3].times_reference), (None, None));
    }

    #[test]
    fn a_goal_without_the_other_row_is_open() {
        let row = Row { goal: Some(Goal::new(Bound::AtMost(1.0), Some("gone"))), ..Row::new("x", vec![1.0]) };
        let group = Group::new("", "ns", None, vec![row]);
        assert_eq!(group.rows[0].goal.as_ref().and_then(Goal::reached), None);
    }
}
