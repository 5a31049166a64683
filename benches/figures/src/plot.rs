//! The plot: the ratios beside their bounds, and how throughput grows.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::{
    report::{Figure, Unit},
    throughput::Point,
};

const SIZE: (u32, u32) = (1_000, 380);
const COLOURS: [RGBColor; 3] = [RGBColor(31, 119, 180), RGBColor(44, 160, 44), RGBColor(214, 39, 40)];

/// Of how many active tenants the lines are.
const ACTIVE: usize = 10;

/// Draws into a file of SVG.
pub(crate) fn draw(path: &Path, figures: &[Figure], points: &[Point]) -> Result<()> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    let drawn = || -> Result<(), Box<dyn std::error::Error + '_>> {
        area.fill(&WHITE)?;
        let (left, right) = area.split_horizontally(SIZE.0 as i32 * 55 / 100);
        ratios(&left, figures)?;
        growth(&right, points)?;
        area.present()?;
        Ok(())
    };
    drawn().map_err(|error| anyhow!("the plot cannot be drawn: {error}"))
}

/// Draws the ratios alone.
pub(crate) fn draw_ratios(path: &Path, figures: &[Figure]) -> Result<()> {
    let area = SVGBackend::new(path, (SIZE.0 * 55 / 100, SIZE.1)).into_drawing_area();
    let drawn = || -> Result<(), Box<dyn std::error::Error + '_>> {
        area.fill(&WHITE)?;
        ratios(&area, figures)?;
        area.present()?;
        Ok(())
    };
    drawn().map_err(|error| anyhow!("the plot cannot be drawn: {error}"))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn<'a> = Result<(), Box<dyn std::error::Error + 'a>>;

/// One bar for each ratio of throughput, with a line where it must be and one where it should be.
fn ratios<'a>(area: &Area<'a>, figures: &[Figure]) -> Drawn<'a> {
    let bars: Vec<&Figure> = figures
        .iter()
        .filter(|figure| figure.unit == Unit::Ratio && figure.at_least)
        .collect();
    let count = bars.len() as f64;
    let most = bars
        .iter()
        .map(|figure| figure.spread.most.max(figure.aim))
        .fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption("Throughput over the baselines", ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(25)
        .build_cartesian_2d(0.0..most * 1.1, 0.0..count)?;
    chart.configure_mesh().disable_y_mesh().disable_y_axis().draw()?;
    for (n, figure) in bars.iter().enumerate() {
        let base = count - 1.0 - n as f64;
        let (low, high) = (base + 0.1, base + 0.55);
        let bar = [(0.0, low), (figure.spread.median, high)];
        chart.draw_series([Rectangle::new(bar, COLOURS[0].mix(0.5).filled())])?;
        let spread = [
            (figure.spread.least, (low + high) / 2.0),
            (figure.spread.most, (low + high) / 2.0),
        ];
        chart.draw_series([PathElement::new(spread, BLACK)])?;
        for (bound, colour) in [(figure.must, COLOURS[2]), (figure.aim, COLOURS[1])] {
            chart.draw_series([PathElement::new(
                [(bound, low - 0.05), (bound, high + 0.05)],
                colour.stroke_width(2),
            )])?;
        }
        let label = format!("{}: {:.2}", figure.name.replace('`', ""), figure.spread.median);
        chart.draw_series([Text::new(label, (0.01, base + 0.85), ("sans-serif", 13))])?;
    }
    let legend = "line: the spread of the pairs; red: must; green: aim";
    chart.draw_series([Text::new(legend, (0.01, 0.07), ("sans-serif", 11))])?;
    Ok(())
}

/// Requests a second over clients, a line for each number of known tenants.
fn growth<'a>(area: &Area<'a>, points: &[Point]) -> Drawn<'a> {
    let points: Vec<&Point> = points.iter().filter(|point| point.active == ACTIVE).collect();
    let most = points.iter().map(|point| point.outcome.rate).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption("GET /users/{id} a second, 10 active tenants", ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(35)
        .y_label_area_size(55)
        .build_cartesian_2d((1.0..256.0).log_scale(), 0.0..most * 1.15)?;
    chart
        .configure_mesh()
        .x_desc("clients")
        .x_label_formatter(&|clients| format!("{clients:.0}"))
        .y_label_formatter(&|rate| format!("{rate:.0}"))
        .draw()?;
    let mut known: Vec<usize> = points.iter().map(|point| point.known).collect();
    known.dedup();
    for (known, colour) in known.into_iter().zip(COLOURS) {
        let line = points.iter().filter(|point| point.known == known);
        let line = line.map(|point| (point.clients as f64, point.outcome.rate));
        chart
            .draw_series(LineSeries::new(line, colour.stroke_width(2)).point_size(3))?
            .label(format!("{known} known"))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 15, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    Ok(())
}
