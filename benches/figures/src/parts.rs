//! The parts of a request's path by themselves, measured by `benches/parts`.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{
    report::{Figure, Report, Section, Spread, Unit},
    world::World,
};

/// Nanoseconds of a duration as divan prints it, such as `1.02 µs`.
fn nanoseconds(text: &str) -> Option<f64> {
    let (number, unit) = text.trim().split_once(' ')?;
    let factor = match unit {
        "ps" => 1e-3,
        "ns" => 1.0,
        "µs" => 1e3,
        "ms" => 1e6,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

/// The name and the fastest, slowest and median time of one line of divan's table:
/// `├─ acquire  91.2 ns │ 120 ns │ 92.1 ns │ 93 ns │ 100 │ 51200`.
fn line(line: &str) -> Option<(String, Spread)> {
    let cells: Vec<&str> = line.split('│').collect();
    let (name, fastest) = cells
        .first()?
        .trim_start_matches(['├', '╰', '─', ' '])
        .split_once(' ')?;
    let samples = cells.get(4)?.trim().parse().ok()?;
    Some((
        name.to_owned(),
        Spread {
            least: nanoseconds(fastest)?,
            most: nanoseconds(cells.get(1)?)?,
            median: nanoseconds(cells.get(2)?)?,
            count: samples,
        },
    ))
}

pub(crate) fn measure(world: &World, report: &mut Report) -> Result<()> {
    let output = Command::new(&world.programs.parts)
        .output()
        .context("can't run the micro-benchmarks")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "the micro-benchmarks failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let parts: Vec<(String, Spread)> = text.lines().filter_map(line).collect();
    let both = parts.iter().find(|(name, _)| name == "resolve_and_acquire");
    let (_, spread) = both.with_context(|| format!("no `resolve_and_acquire` in\n{text}"))?;
    report.figures.push(Figure::at_most(
        "resolve + acquire on a hit",
        Unit::Nanoseconds,
        *spread,
        1_000.0,
        300.0,
    ));
    let rows = parts.iter().map(|(name, spread)| {
        vec![
            name.replace('_', " "),
            format!("{:.0}", spread.median),
            format!("{:.0}", spread.least),
        ]
    });
    report.sections.push(Section {
        title: "Parts of a request's path",
        text: "One thread, nothing that waits: [`benches/parts`](../benches/parts/src/main.rs).".to_owned(),
        head: ["Part", "median ns", "fastest ns"].map(str::to_owned).into(),
        rows: rows.collect(),
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_divan_s_table_is_read() {
        let (name, spread) =
            line("├─ acquire        91.2 ns       │ 1.2 µs        │ 92.1 ns       │ 93 ns │ 100     │ 51200").unwrap();
        assert_eq!(name, "acquire");
        assert_eq!(
            (spread.least, spread.most, spread.median, spread.count),
            (91.2, 1_200.0, 92.1, 100)
        );
        assert!(
            line("parts          fastest       │ slowest       │ median        │ mean          │ samples │ iters")
                .is_none()
        );
    }
}
