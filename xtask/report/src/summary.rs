//! Medians, and how far the rounds are from each other.

use serde::{Deserialize, Serialize};

/// What several rounds measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The middle one.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Summary {
    /// `None` of no values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (&least, &most) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self { median, least, most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_odd_round_does_not_move_the_median() {
        let summary = Summary::of([3.0, 1.0, 900.0]);
        assert_eq!(summary, Some(Summary { median: 3.0, least: 1.0, most: 900.0 }));
        assert!(Summary::of([1.0, 2.0]).is_some_and(|two| (two.median - 1.5).abs() < f64::EPSILON));
        assert_eq!(Summary::of([]), None);
    }
}
