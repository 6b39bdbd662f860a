//! Several files, one configuration.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::report::Problem;

/// Adds the keys of `more`, another file's: tables are joined key by key, arrays one after the other. A key that both
/// have otherwise is noted.
pub(super) fn merge<'t>(table: &mut DeTable<'t>, more: DeTable<'t>, problems: &mut Vec<Problem>) {
    for (key, value) in more {
        let place = table.get_key_value(key.get_ref().as_ref()).map(|(first, _)| first.span());
        let (Some(first), Some(own)) = (place, table.get_mut(key.get_ref().as_ref())) else {
            table.insert(key, value);
            continue;
        };
        match (own.get_mut(), value.into_inner()) {
            (DeValue::Table(own), DeValue::Table(more)) => merge(own, more, problems),
            (DeValue::Array(own), DeValue::Array(more)) if are_tables(own) && are_tables(&more) => {
                more.into_iter().for_each(|table| own.push(table));
            }
            _ => problems.push(
                Problem::at(key.span(), format!("`{}` is there twice", key.get_ref().escape_debug()))
                    .related(first, "the first")
                    .help("files given together are one configuration; keep one of them"),
            ),
        }
    }
}

fn are_tables(array: &[Spanned<DeValue<'_>>]) -> bool {
    array.iter().all(|element| element.get_ref().is_table())
}
