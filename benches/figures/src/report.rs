//! What was measured, as a table for the terminal and as Markdown.

use std::{fmt::Write as _, time::Duration};

use comfy_table::{ContentArrangement, Table, presets};

/// The middle of some numbers, and how far they lie apart: what the machine did besides shows there.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
    pub(crate) count: usize,
}

impl Spread {
    /// Of at least one number.
    pub(crate) fn of(mut numbers: Vec<f64>) -> Self {
        numbers.sort_by(f64::total_cmp);
        let (count, middle) = (numbers.len(), numbers.len() / 2);
        let median = match count % 2 {
            0 => (numbers[middle - 1] + numbers[middle]) / 2.0,
            _ => numbers[middle],
        };
        Self {
            median,
            least: numbers[0],
            most: numbers[count - 1],
            count,
        }
    }
}

/// What a figure counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Ratio,
    Nanoseconds,
    Milliseconds,
    Megabytes,
    Kilobytes,
}

impl Unit {
    /// A number with its unit; nothing for a bound that there is none of.
    fn show(self, value: f64) -> String {
        match self {
            _ if value.is_nan() => "–".to_owned(),
            Self::Ratio => format!("{value:.2}"),
            Self::Nanoseconds => format!("{value:.0} ns"),
            Self::Milliseconds => format!("{value:.1} ms"),
            Self::Megabytes => format!("{value:.1} MB"),
            Self::Kilobytes => format!("{value:.1} kB"),
        }
    }
}

/// A figure with its bounds, which are not numbers if it has none: more is better if `at_least`
/// says so, otherwise less.
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) unit: Unit,
    pub(crate) spread: Spread,
    pub(crate) must: f64,
    pub(crate) aim: f64,
    pub(crate) at_least: bool,
    /// What not even the worst of all may exceed.
    pub(crate) never_above: Option<f64>,
}

impl Figure {
    /// A ratio of which more is better.
    pub(crate) fn at_least(name: &'static str, spread: Spread, must: f64, aim: f64) -> Self {
        Self {
            at_least: true,
            ..Self::at_most(name, Unit::Ratio, spread, must, aim)
        }
    }

    /// A figure of which less is better.
    pub(crate) fn at_most(name: &'static str, unit: Unit, spread: Spread, must: f64, aim: f64) -> Self {
        Self {
            name,
            unit,
            spread,
            must,
            aim,
            at_least: false,
            never_above: None,
        }
    }

    fn keeps(&self, bound: f64) -> bool {
        if self.at_least {
            self.spread.median >= bound
        } else {
            self.spread.median <= bound && self.never_above.is_none_or(|never| self.spread.most <= never)
        }
    }

    fn verdict(&self) -> &'static str {
        match (self.keeps(self.aim), self.keeps(self.must)) {
            _ if self.must.is_nan() => "",
            (true, _) => "reaches the aim",
            (false, true) => "kept",
            (false, false) => "**missed**",
        }
    }

    fn show_must(&self) -> String {
        let must = self.unit.show(self.must);
        match self.never_above {
            Some(never) => format!("{must}, none above {}", self.unit.show(never)),
            None => must,
        }
    }
}

/// One table besides the figures.
pub(crate) struct Section {
    pub(crate) title: &'static str,
    /// What is measured and how, in Markdown.
    pub(crate) text: String,
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

#[derive(Default)]
pub(crate) struct Report {
    pub(crate) figures: Vec<Figure>,
    pub(crate) sections: Vec<Section>,
    /// Parts that could not be measured, and why.
    pub(crate) failures: Vec<String>,
}

const FIGURES_HEAD: [&str; 6] = ["Figure", "Measured", "Spread", "Must", "Aim", ""];

impl Report {
    fn figure_rows(&self) -> Vec<Vec<String>> {
        let rows = self.figures.iter().map(|figure| {
            let (unit, spread) = (figure.unit, figure.spread);
            vec![
                figure.name.to_owned(),
                unit.show(spread.median),
                format!(
                    "{} to {}, {} times",
                    unit.show(spread.least),
                    unit.show(spread.most),
                    spread.count
                ),
                figure.show_must(),
                unit.show(figure.aim),
                figure.verdict().to_owned(),
            ]
        });
        rows.collect()
    }

    /// For the terminal.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        let mut add = |title: &str, head: &[String], rows: &[Vec<String>]| {
            let mut table = Table::new();
            table.load_style(presets::ASCII_NO_BORDERS);
            table
                .set_content_arrangement(ContentArrangement::Disabled)
                .set_header(head);
            table.add_rows(rows);
            let plain = table.to_string().replace("**", "").replace('`', "");
            text.push_str(&format!("\n{title}\n{plain}\n"));
        };
        for section in &self.sections {
            add(section.title, &section.head, &section.rows);
        }
        if !self.figures.is_empty() {
            add("Figures", &FIGURES_HEAD.map(str::to_owned), &self.figure_rows());
        }
        text
    }

    /// The page of the documentation.
    pub(crate) fn to_markdown(&self, machine: &str, plot: &str, took: Duration) -> String {
        let mut page = format!(
            "# Benchmarks\n\n\
             What `./scripts/bench` measured. {machine} Load generator, servers and database share it, so absolute numbers say little: \
             the figures are ratios, measured in turn in the same run, on the same databases and with the same answers. A ratio is the \
             median of its pairs over several launches of the servers; the spread shows what else the machine did.\n\n\
             - **The bare baseline** is [the same HTTP server](../benches/baseline/src/main.rs) with hand-written SQL on the same database \
             client, its connections in a pool of the same kind and size, and one tenant written into it: no tenancy, no ORM, no \
             document, no checks, no limits, no log.\n\
             - **sqlx's own pool** is the same hand-written SQL on sqlx's `PgPool` with its defaults, which is what a user would write. \
             SeaORM on that pool would do more for each request: `bare with SeaORM` in the table of instructions shows how much.\n\
             - **pgbench** sends the same query, prepared, with as many clients. It answers no HTTP, so it is the limit.\n\
             - **Go by hand** is [a service](../benches/go-service/main.go) on Echo and pgx, with a tenant by header and a pool for \
             each: what a team would write itself on the two libraries that go-bricks builds on. go-bricks does more for each \
             request; it is not measured, as its module could not be had from the Go module proxy. So this peer has no bounds.\n\
             - **postrust** is `postrust-server` of crates.io, the nearest peer in Rust to declared tables.\n\n\
             Tenantry has mimalloc as its allocator and the baselines have the system's. All of them are plain release builds.\n\n",
        );
        markdown_table(&mut page, &FIGURES_HEAD.map(str::to_owned), &self.figure_rows());
        let _ = write!(
            page,
            "\n![The ratios beside their bounds, and how throughput grows]({plot})\n"
        );
        for section in &self.sections {
            let _ = write!(page, "\n## {}\n\n{}\n\n", section.title, section.text);
            markdown_table(&mut page, &section.head, &section.rows);
        }
        let _ = write!(page, "\nThe run took {} minutes.\n", took.as_secs().div_ceil(60));
        page
    }
}

fn markdown_table(page: &mut String, head: &[String], rows: &[Vec<String>]) {
    let mut line = |cells: &[String]| {
        page.push_str(&format!("| {} |\n", cells.join(" | ")));
    };
    line(head);
    line(&vec!["---".to_owned(); head.len()]);
    for row in rows {
        line(row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_each_figure_with_its_bounds_and_verdict() {
        let spread = Spread::of(vec![0.9, 1.2, 3.5]);
        let worst = Figure::at_most("worst", Unit::Ratio, spread, 1.3, 1.1);
        let report = Report {
            figures: vec![
                Figure::at_least("more", spread, 0.8, 1.2),
                Figure::at_most("less", Unit::Ratio, spread, 1.3, 1.1),
                Figure::at_least("unbound", spread, f64::NAN, f64::NAN),
                Figure {
                    never_above: Some(3.0),
                    ..worst
                },
            ],
            ..Report::default()
        };
        let page = report.to_markdown("A machine.", "plot.svg", Duration::from_secs(61));
        for line in [
            "| more | 1.20 | 0.90 to 3.50, 3 times | 0.80 | 1.20 | reaches the aim |",
            "| less | 1.20 | 0.90 to 3.50, 3 times | 1.30 | 1.10 | kept |",
            "| unbound | 1.20 | 0.90 to 3.50, 3 times | – | – |  |",
            "| worst | 1.20 | 0.90 to 3.50, 3 times | 1.30, none above 3.00 | 1.10 | **missed** |",
            "The run took 2 minutes.",
        ] {
            assert!(page.contains(line), "no `{line}` in\n{page}");
        }
    }
}
