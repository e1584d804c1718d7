//! Line charts as self-contained SVG: numbers that people compare are easier to compare in a picture.
//!
//! What it does not do: choose what to show. Names come from files, so they are shortened; the library escapes them.

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use crate::output::Failure;

/// Colours that differ for the colour-blind, too (Okabe and Ito 2008), without the yellow that vanishes on white.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(0, 0, 0),
];
/// How many lines a chart can show so that they can be told apart.
pub const MAX_LINES: usize = COLOURS.len();
/// Longest name in a legend, in characters.
const MAX_NAME: usize = 28;
/// Width and height of one chart, in pixels.
const SIZE: (u32, u32) = (480, 400);

/// One line: its name and its points.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// What stands on and beside a chart.
pub struct Frame<'a> {
    pub title: &'a str,
    pub x: &'a str,
    pub y: &'a str,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// δ over ε, δ on a logarithmic scale, beside the trade-off between the two errors of a test; one SVG document.
pub fn privacy_curves(profiles: &[Line], tradeoffs: &[Line]) -> Result<String, Failure> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (2 * SIZE.0, SIZE.1)).into_drawing_area();
        let drawn = root.fill(&WHITE).map_err(Failure::own);
        let (left, right) = root.split_horizontally(SIZE.0);
        drawn
            .and_then(|()| profile(&left, profiles))
            .and_then(|()| tradeoff(&right, tradeoffs))
            .and_then(|()| root.present().map_err(Failure::own))?;
    }
    Ok(svg)
}

fn profile(area: &Area<'_>, lines: &[Line]) -> Result<(), Failure> {
    let frame = Frame { title: "What remains beyond ε", x: "ε", y: "δ" };
    let positive = lines.iter().flat_map(|line| &line.points).map(|point| point.1).filter(|delta| *delta > 0.0);
    let lowest = positive.fold(1.0, f64::min).max(1e-300);
    let bottom = 10f64.powf(lowest.log10().floor()).min(0.1);
    let right = furthest(lines);
    chart(area, &frame, 0.0..right, (bottom..1.0).log_scale(), &within(lines, right, bottom))
}

fn tradeoff(area: &Area<'_>, lines: &[Line]) -> Result<(), Failure> {
    let frame = Frame { title: "Errors of whoever guesses", x: "false alarms", y: "misses, at best" };
    chart(area, &frame, 0.0..1.0, 0.0..1.0, &within(lines, 1.0, 0.0))
}

/// The points of a frame, what is above or below it at its edge: the library counts pixels in 32 bits and does not check
/// what lies far outside.
fn within(lines: &[Line], right: f64, bottom: f64) -> Vec<Line> {
    let is_in = |point: &&(f64, f64)| (0.0..=right).contains(&point.0) && point.1.is_finite();
    let clip = |line: &Line| line.points.iter().filter(is_in).map(|(x, y)| (*x, y.clamp(bottom, 1.0))).collect();
    lines.iter().map(|line| Line { name: line.name.clone(), points: clip(line) }).collect()
}

fn furthest(lines: &[Line]) -> f64 {
    let finite = lines.iter().flat_map(|line| &line.points).map(|point| point.0).filter(|x| x.is_finite());
    let furthest = finite.fold(0.0, f64::max);
    if furthest > 0.0 { furthest } else { 1.0 }
}

fn chart<Y>(area: &Area<'_>, frame: &Frame<'_>, x: std::ops::Range<f64>, y: Y, lines: &[Line]) -> Result<(), Failure>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .caption(frame.title, ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(56)
        .build_cartesian_2d(x, y)
        .map_err(Failure::own)?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(frame.x).y_desc(frame.y).light_line_style(TRANSPARENT).x_label_formatter(&tick);
    mesh.y_label_formatter(&tick).draw().map_err(Failure::own)?;
    for (line, colour) in lines.iter().zip(COLOURS) {
        let series = LineSeries::new(line.points.iter().copied(), colour.stroke_width(2));
        let drawn = chart.draw_series(series).map_err(Failure::own)?;
        drawn.label(shortened(&line.name)).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour));
    }
    let mut legend = chart.configure_series_labels();
    legend.position(SeriesLabelPosition::UpperRight).border_style(BLACK.mix(0.3)).background_style(WHITE.mix(0.85));
    legend.draw().map_err(Failure::own)
}

/// A number on an axis: short, and without the last digits of binary fractions.
fn tick(value: &f64) -> String {
    if *value == 0.0 || (1e-2..1e4).contains(&value.abs()) {
        let text = format!("{value:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        format!("{value:.0e}")
    }
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= MAX_NAME {
        return name.to_owned();
    }
    name.chars().take(MAX_NAME - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, points: &[(f64, f64)]) -> Line {
        Line { name: name.to_owned(), points: points.to_vec() }
    }

    #[test]
    fn names_from_files_are_escaped_and_shortened() {
        let hostile = [line("</text><script>alert(1)</script>", &[(0.0, 0.5), (1.0, 1e-9)])];
        let svg = privacy_curves(&hostile, &hostile).unwrap();
        assert!(!svg.contains("<script"), "{svg}");
        assert_eq!(shortened(&"a".repeat(100)).chars().count(), MAX_NAME);
    }

    #[test]
    fn odd_lines_are_drawn_all_the_same() {
        for points in [
            &[][..],
            &[(0.0, 0.0)],
            &[(0.0, 1.0), (0.0, 1.0)],
            &[(0.0, 1e-320), (1e9, 0.0)],
            &[(f64::NAN, f64::INFINITY), (1e300, 2.0)],
        ] {
            let lines = [line("odd", points)];
            assert!(privacy_curves(&lines, &lines).unwrap().starts_with("<svg"), "{points:?}");
        }
        assert!(privacy_curves(&[], &[]).is_ok());
    }

    #[test]
    fn ticks_are_short() {
        for (value, text) in [(0.0, "0"), (0.5, "0.5"), (0.300_000_000_000_000_04, "0.3"), (1e-7, "1e-7"), (12.0, "12")]
        {
            assert_eq!(tick(&value), text);
        }
    }
}
