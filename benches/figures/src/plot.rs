//! The plot: the ratios beside their bounds, and how throughput grows.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::{
    report::{Figure, Unit},
    tenants::Point,
};

const SIZE: (u32, u32) = (1_000, 700);
const COLOURS: [RGBColor; 3] = [RGBColor(31, 119, 180), RGBColor(44, 160, 44), RGBColor(214, 39, 40)];

/// Where the scale of ratios begins and ends.
const LEAST: f64 = 0.2;
const MOST: f64 = 8.0;

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

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn<'a> = Result<(), Box<dyn std::error::Error + 'a>>;

/// One bar for each ratio, from 1 to it, with a line where it must be and one where it should be.
fn ratios<'a>(area: &Area<'a>, figures: &[Figure]) -> Drawn<'a> {
    let bars: Vec<&Figure> = figures.iter().filter(|figure| figure.unit == Unit::Ratio).collect();
    let count = bars.len() as f64;
    let mut chart = ChartBuilder::on(area)
        .caption("Ratios to the baselines and peers", ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(25)
        .build_cartesian_2d((LEAST..MOST).log_scale(), -0.5..count)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_label_formatter(&|ratio| format!("{ratio:.1}"))
        .draw()?;
    for (n, figure) in bars.iter().enumerate() {
        let base = count - 1.0 - n as f64;
        let (low, high) = (base + 0.05, base + 0.45);
        let mut line = |from: (f64, f64), to: (f64, f64), style: ShapeStyle| {
            let inside = |(ratio, at): (f64, f64)| (ratio.clamp(LEAST, MOST), at);
            let line = PathElement::new([inside(from), inside(to)], style);
            chart.draw_series([line]).map(drop)
        };
        let (middle, spread) = ((low + high) / 2.0, figure.spread);
        let bar = COLOURS[0].mix(0.5).stroke_width(9);
        line((1.0, middle), (spread.median, middle), bar)?;
        line((spread.least, middle), (spread.most, middle), BLACK.into())?;
        let bounds = [(figure.must, COLOURS[2]), (figure.aim, COLOURS[1])];
        for (bound, colour) in bounds.into_iter().filter(|(bound, _)| !bound.is_nan()) {
            line((bound, low), (bound, high), colour.stroke_width(2))?;
        }
        let sign = if figure.at_least { "" } else { ", less is better" };
        let label = format!("{}: {:.2}{sign}", figure.name.replace('`', ""), spread.median);
        chart.draw_series([Text::new(label, (LEAST, base + 0.9), ("sans-serif", 12))])?;
    }
    let legend = "bar: from 1 to the median; line: the spread; red: must; green: aim";
    chart.draw_series([Text::new(legend, (LEAST, -0.1), ("sans-serif", 11))])?;
    Ok(())
}

/// Requests a second over clients, a line for each number of active tenants.
fn growth<'a>(area: &Area<'a>, points: &[Point]) -> Drawn<'a> {
    let most = points.iter().map(Point::rate).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption("GET /users/{id} a second", ("sans-serif", 18))
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
    let lines = points.chunk_by(|one, next| one.active == next.active);
    for (line, colour) in lines.zip(COLOURS) {
        let name = match line[0].active {
            1 => "1 tenant".to_owned(),
            active => format!("{active} tenants"),
        };
        let line = line.iter().map(|point| (point.clients as f64, point.rate()));
        chart
            .draw_series(LineSeries::new(line, colour.stroke_width(2)).point_size(3))?
            .label(name)
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
