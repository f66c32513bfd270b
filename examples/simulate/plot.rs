//! Draws a trace's hit ratios over the capacity as SVG.
//!
//! Capacities spread over magnitudes, so their axis is logarithmic; the ratios' axis starts at zero, so that heights
//! compare. The optimum is black and dashed; each policy has a colour of its own, the same on all plots, and other caches
//! have greys.

use crate::contender::{PEERS, POLICIES};
use crate::replay::{Contest, Ratios};
use crate::report::{grouped, heading};
use crate::trace::Trace;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::error::Error;
use std::ops::Range;
use std::path::Path;

const SIZE: (u32, u32) = (960, 540);
/// The legend has a strip of its own beside the plot, so it never lies on the lines.
const LEGEND: u32 = 150;
const FONT: &str = "sans-serif";
const GRID: RGBColor = RGBColor(225, 225, 225);
const TEXT: RGBColor = RGBColor(50, 50, 50);

/// Okabe and Ito's colours, which stay distinct for the colour-blind; yellow, too pale for a line, is brown here.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(122, 82, 50),
];

const PEERS_COLOURS: [RGBColor; 2] = [RGBColor(110, 110, 110), RGBColor(170, 170, 170)];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error>>;

/// One line of the plot.
struct Curve {
    name: String,
    line: Line,
    /// Capacity and hit ratio.
    points: Vec<(u64, f64)>,
}

#[derive(Clone, Copy)]
enum Line {
    Optimum,
    Contender(RGBColor),
}

/// Writes the plot of one trace to `path`. An empty cache has no place on a logarithmic axis and is left out.
pub(crate) fn draw(path: &Path, trace: &Trace, contest: &Contest, rows: &[Ratios]) -> Drawn {
    let rows: Vec<&Ratios> = rows.iter().filter(|row| row.capacity > 0).collect();
    let curves = curves(contest, &rows);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let (plot, legend) = area.split_horizontally(SIZE.0 - LEGEND);
        draw_curves(&plot, &heading(trace), &rows, &curves)?;
        draw_legend(&legend, &curves)?;
        area.present()?;
    }
    std::fs::write(path, svg)?;
    Ok(())
}

/// The optimum and then the contenders, the better ones first, as they stand in the plot from top to bottom.
fn curves(contest: &Contest, rows: &[&Ratios]) -> Vec<Curve> {
    let points = |ratio: &dyn Fn(&Ratios) -> f64| rows.iter().map(|row| (row.capacity, ratio(row))).collect();
    let mut curves: Vec<Curve> = contest
        .contenders
        .iter()
        .enumerate()
        .map(|(column, contender)| Curve {
            name: contender.to_string(),
            line: Line::Contender(colour(&contender.to_string())),
            points: points(&|row| row.reached[column]),
        })
        .collect();
    let height = |curve: &Curve| curve.points.iter().map(|point| point.1).sum::<f64>();
    curves.sort_by(|a, b| height(b).total_cmp(&height(a)));
    curves.insert(
        0,
        Curve { name: "optimum".to_owned(), line: Line::Optimum, points: points(&|row| row.optimum) },
    );
    curves
}

fn colour(contender: &str) -> RGBColor {
    let place = |names: &[&str]| names.iter().position(|&name| name == contender);
    match (place(POLICIES), place(PEERS)) {
        (Some(policy), _) => COLOURS[policy % COLOURS.len()],
        (_, Some(peer)) => PEERS_COLOURS[peer % PEERS_COLOURS.len()],
        // A policy of one's own, which has no name here.
        _ => BLACK,
    }
}

fn draw_curves(area: &Area<'_>, title: &str, rows: &[&Ratios], curves: &[Curve]) -> Drawn {
    let capacities = Capacities::new(rows.iter().map(|row| row.capacity).collect());
    let top = ceiling(rows.iter().map(|row| row.optimum.max(row.best())));
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 20, FontStyle::Bold, &TEXT))
        .margin(14)
        .x_label_area_size(52)
        .y_label_area_size(62)
        .build_cartesian_2d(capacities, 0.0..top)?;
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(TEXT)
        .label_style((FONT, 14, &TEXT))
        .axis_desc_style((FONT, 16, &TEXT))
        .x_desc("capacity (entries)")
        .y_desc("hit ratio (%)")
        .y_label_formatter(&|ratio| format!("{ratio:.0}"))
        .draw()?;
    // The best last, so that it lies on top.
    for curve in curves.iter().rev() {
        let points = curve.points.iter().copied();
        match curve.line {
            Line::Optimum => {
                chart.draw_series(DashedLineSeries::new(points, 7, 5, BLACK.stroke_width(2)))?;
            }
            Line::Contender(colour) => {
                chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?;
                chart.draw_series(points.map(|point| Circle::new(point, 3, colour.filled())))?;
            }
        }
    }
    Ok(())
}

fn draw_legend(area: &Area<'_>, curves: &[Curve]) -> Drawn {
    for (curve, y) in curves.iter().zip((64..).step_by(24)) {
        let (left, right) = (4, 34);
        match curve.line {
            Line::Optimum => {
                for x in [left, left + 12, left + 24] {
                    area.draw(&PathElement::new([(x, y), (x + 7, y)], BLACK.stroke_width(2)))?;
                }
            }
            Line::Contender(colour) => {
                area.draw(&PathElement::new([(left, y), (right, y)], colour.stroke_width(2)))?;
                area.draw(&Circle::new(((left + right) / 2, y), 3, colour.filled()))?;
            }
        }
        let style = (FONT, 15, &TEXT).into_text_style(area).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(curve.name.clone(), (right + 8, y), style))?;
    }
    Ok(())
}

/// The logarithmic axis of the capacities, with labels at the capacities themselves.
struct Capacities {
    /// Logarithms.
    ends: Range<f64>,
    labels: Vec<u64>,
}

impl Capacities {
    /// `capacities` must rise and have no zero.
    fn new(capacities: Vec<u64>) -> Self {
        let low = capacities.first().map_or(0.0, |&first| log(first));
        let high = capacities.last().map_or(1.0, |&last| log(last));
        let air = ((high - low) * 0.03).max(0.02);
        let ends = low - air..high + air;
        let labels = apart(&capacities, (high - low) / 14.0);
        Self { ends, labels }
    }
}

impl Ranged for Capacities {
    type FormatOption = NoDefaultFormatting;
    type ValueType = u64;

    fn map(&self, capacity: &u64, (left, right): (i32, i32)) -> i32 {
        let part = (log(*capacity) - self.ends.start) / (self.ends.end - self.ends.start);
        left + (part * f64::from(right - left)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<u64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.labels.clone() }
    }

    fn range(&self) -> Range<u64> {
        10.0_f64.powf(self.ends.start) as u64..10.0_f64.powf(self.ends.end) as u64
    }
}

impl ValueFormatter<u64> for Capacities {
    fn format_ext(&self, capacity: &u64) -> String {
        grouped(*capacity)
    }
}

fn log(capacity: u64) -> f64 {
    (capacity as f64).log10()
}

/// The capacities that get a label: from the right, each so far from the one before that none overlap.
fn apart(capacities: &[u64], distance: f64) -> Vec<u64> {
    let mut kept: Vec<u64> = Vec::new();
    for &capacity in capacities.iter().rev() {
        if kept.last().is_none_or(|&last| log(last) - log(capacity) >= distance) {
            kept.push(capacity);
        }
    }
    kept
}

/// The next multiple of ten above all ratios.
fn ceiling(ratios: impl Iterator<Item = f64>) -> f64 {
    let highest = ratios.fold(0.0, f64::max);
    ((highest / 10.0).floor() * 10.0 + 10.0).min(100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_keep_their_distance() {
        assert_eq!(apart(&[1, 10, 50, 100], 0.9), [100, 10, 1]);
    }

    #[test]
    fn the_axis_ends_above_the_highest() {
        assert_eq!(ceiling([0.0].into_iter()), 10.0);
        assert_eq!(ceiling([40.0, 53.1].into_iter()), 60.0);
        assert_eq!(ceiling([99.9].into_iter()), 100.0);
    }

    #[test]
    fn capacities_stand_by_magnitude() {
        let axis = Capacities::new(vec![10, 100, 1_000]);
        let [low, middle, high] = [10, 100, 1_000].map(|capacity| axis.map(&capacity, (0, 1_000)));
        assert!(0 < low && high < 1_000);
        assert_eq!((middle, low + high), (500, 1_000));
        assert_eq!(Capacities::new(vec![7]).map(&7, (0, 100)), 50);
    }
}
