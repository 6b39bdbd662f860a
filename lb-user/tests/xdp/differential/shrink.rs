//! From many packets to the few that make program and model disagree, and the plainest configuration in which they do.
//!
//! proptest shrinks one value at a time; here is what it cannot know: most packets have nothing to do with each other, so
//! the failing one is tried alone first, and a run of few packets is quick.

use proptest::strategy::ValueTree;

use super::{Counters, Disagreement, Step, configuration};
use crate::model::Model;

/// No more tries than that: a minute or two.
const TRIES: u32 = 1_500;

/// Runs all steps, and panics with the smallest disagreement if there is any.
pub(super) fn minimal<C, S>(
    mut tree: C,
    mut steps: Vec<S>,
    mut run: impl FnMut(&Model, &[Step]) -> Result<Counters, Disagreement>,
) -> Counters
where
    C: ValueTree<Value = Model>,
    S: ValueTree<Value = Step>,
{
    let mut model = tree.current();
    let mut values: Vec<Step> = steps.iter().map(ValueTree::current).collect();
    let mut found = match run(&model, &values) {
        Ok(counters) => return counters,
        Err(disagreement) => disagreement,
    };
    let mut failing = |model: &Model, steps: &[Step]| run(model, steps).err();

    steps.truncate(found.at + 1);
    values.truncate(found.at + 1);
    // Without the others; then without half of them, a quarter of them, …
    let mut chunk = values.len() - 1;
    while chunk > 0 {
        let mut at = 0;
        while at < values.len() - 1 {
            let end = (at + chunk).min(values.len() - 1);
            let fewer = [&values[..at], &values[end..]].concat();
            if let Some(failure) = failing(&model, &fewer) {
                steps.drain(at..end);
                (values, found) = (fewer, failure);
            } else {
                at = end;
            }
        }
        chunk = if chunk == 1 { 0 } else { chunk.div_ceil(2) };
    }

    let mut tries = TRIES;
    for (at, step) in steps.iter_mut().enumerate() {
        simplify(step, &mut tries, |value: Step| {
            let mut simpler = values.clone();
            simpler[at] = value;
            let failure = failing(&model, &simpler);
            failure.map(|failure| (values, found) = (simpler, failure)).is_some()
        });
    }
    simplify(&mut tree, &mut tries, |value: Model| {
        let failure = failing(&value, &values);
        failure.map(|failure| (model, found) = (value, failure)).is_some()
    });
    let steps: Vec<String> = values.iter().map(|step| format!("{step:?}")).collect();
    panic!("{}\n\nafter {}\n\nwith\n{}", found.text, steps.join("\n"), configuration::text(&model));
}

/// Has proptest simplify a value for as long as it still fails.
fn simplify<T: ValueTree>(tree: &mut T, tries: &mut u32, mut still_fails: impl FnMut(T::Value) -> bool) {
    let mut goes_on = tree.simplify();
    while goes_on && *tries > 0 {
        *tries -= 1;
        goes_on = if still_fails(tree.current()) { tree.simplify() } else { tree.complicate() };
    }
}
