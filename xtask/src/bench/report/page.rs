//! A page that needs nothing else: what was measured where, a plot and a table for each group.

use std::fmt::Write as _;

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};
use xtask_report::{Group, Report, Row, Summary};

use super::table;

/// Pixels of a plot: its width, a row, and what is above and below the rows.
const WIDTH: u32 = 1_000;
const ROW: u32 = 24;
const AROUND: u32 = 60;
/// Pixels of the rows' names.
const NAMES: u32 = 380;
const BAR: RGBColor = RGBColor(70, 110, 170);
const REFERENCE: RGBColor = RGBColor(150, 150, 150);

const STYLE: &str = "body{font:15px/1.5 sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}\
table{border-collapse:collapse;margin:1em 0;font-size:13px}td,th{border:1px solid #ccc;padding:2px 8px;text-align:left}\
th{background:#f0f0f0}td:nth-child(n+2){font-variant-numeric:tabular-nums}.missed{background:#fbe3e0}\
.reached{background:#e5f3e3}svg{max-width:100%;height:auto}";

/// The whole page.
pub(super) fn page(report: &Report) -> Result<String, String> {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n<p>{}</p>\n<p>{} rounds; bars are medians, lines reach from \
         the least to the most.</p>\n<ul>\n",
        escaped(&table::machine(&report.machine)),
        report.rounds,
        title = escaped(&report.title),
    );
    for note in &report.notes {
        // Invariant: a String takes everything.
        let _ = writeln!(page, "<li>{}</li>", escaped(note));
    }
    page.push_str("</ul>\n");
    for group in &report.groups {
        let _ = writeln!(page, "<h2>{}</h2>", escaped(&group.title));
        page.push_str(&plot(group)?);
        page.push_str(&html_table(group));
    }
    page.push_str("</body></html>\n");
    Ok(page)
}

/// A bar for each row that was measured, with a line over its spread.
fn plot(group: &Group) -> Result<String, String> {
    let rows: Vec<(&Row, Summary)> = group.rows.iter().filter_map(|row| Some((row, row.summary?))).collect();
    let Some(most) = rows.iter().map(|(_, summary)| summary.most).reduce(f64::max) else {
        return Ok(String::new());
    };
    let mut svg = String::new();
    let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
    let height = AROUND + ROW * count;
    let failed = |error: &dyn std::error::Error| format!("plot of {}: {error}", group.title);
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        let right = most.max(f64::MIN_POSITIVE) * 1.05;
        let mut chart = ChartBuilder::on(&root)
            .margin(8)
            .x_label_area_size(36)
            .y_label_area_size(NAMES)
            .build_cartesian_2d(0.0..right, 0.0..f64::from(count))
            .map_err(|error| failed(&error))?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .y_labels(0)
            .x_desc(group.unit.as_str())
            // Else as large as the plot is high.
            .label_style(("sans-serif", 12))
            .axis_desc_style(("sans-serif", 12))
            .draw()
            .map_err(|error| failed(&error))?;
        for (at, (row, summary)) in (0_u32..).zip(&rows) {
            // The first row is at the top; its name stands beside the middle of its bar.
            let middle = f64::from(count - at) - 0.5;
            let color = if group.reference.as_deref() == Some(&row.name) { REFERENCE } else { BAR };
            // A difference may be less than nothing, which would be drawn over the names.
            let [least, median, most] =
                [summary.least, summary.median, summary.most].map(|value| value.max(0.0));
            let bar = Rectangle::new([(0.0, middle - 0.32), (median, middle + 0.32)], color.filled());
            let spread = PathElement::new([(least, middle), (most, middle)], BLACK.stroke_width(2));
            chart.draw_series([bar]).map_err(|error| failed(&error))?;
            chart.draw_series([spread]).map_err(|error| failed(&error))?;
            let place = chart.backend_coord(&(0.0, middle));
            let style = ("sans-serif", 13).into_font().color(&BLACK).pos(Pos::new(HPos::Right, VPos::Center));
            root.draw_text(&row.name, &style, (place.0 - 6, place.1)).map_err(|error| failed(&error))?;
        }
        root.present().map_err(|error| failed(&error))?;
    }
    Ok(svg)
}

fn html_table(group: &Group) -> String {
    let mut text = "<table>\n".to_owned();
    for (at, line) in table::lines(group).iter().enumerate() {
        let kind = if at == 0 { "th" } else { "td" };
        let reached = at.checked_sub(1).and_then(|row| group.rows[row].goal.as_ref()?.reached());
        let class = match reached {
            Some(true) => " class=\"reached\"",
            Some(false) => " class=\"missed\"",
            None => "",
        };
        let cells: Vec<String> =
            line.iter().map(|cell| format!("<{kind}>{}</{kind}>", escaped(cell))).collect();
        let cells = cells.concat();
        // Invariant: a String takes everything.
        let _ = writeln!(text, "<tr{class}>{cells}</tr>");
    }
    text + "</table>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\n', "<br>")
}

#[cfg(test)]
mod tests {
    use xtask_report::{Bound, Goal, Machine};

    use super::*;

    #[test]
    fn a_page_has_everything_in_itself() {
        let goal = Some(Goal::new(Bound::AtMost(5.0), None));
        let rows = vec![
            Row { goal, ..Row::new("a <b> & c", vec![10.0, 12.0, 11.0]) },
            Row::skipped("none", "the kernel has it not"),
        ];
        let report = Report {
            title: "What it costs".to_owned(),
            machine: Machine { kernel: "6.18.5".to_owned(), ..Machine::default() },
            rounds: 3,
            notes: vec!["One has to know".to_owned()],
            groups: vec![
                Group::new("A group", "ns", None, rows),
                Group::new("An empty one", "ns", None, vec![]),
            ],
        };
        let page = page(&report).expect("it can be drawn");
        for part in [
            "Linux 6.18.5",
            "3 rounds",
            "One has to know",
            "a &lt;b&gt; &amp; c",
            "<svg",
            "class=\"missed\"",
            "the kernel has it not",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("src=") && !page.contains("href="), "it loads nothing");
        assert_eq!(page.matches("<svg").count(), 1, "nothing is drawn where nothing was measured");
    }
}
