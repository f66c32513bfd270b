//! Draws throughput as bars: a panel for each kind of work, a group for each number of threads, a bar for each cache.
//!
//! Each panel has a scale of its own, which begins at zero; figures stand above the bars.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::error::Error;
use std::path::Path;

const PANEL: (i32, i32) = (310, 250);
/// Above the panels, for the legend.
const TOP: i32 = 44;
/// What a panel keeps free around its bars.
const MARGIN: (i32, i32) = (24, 52);
const FONT: &str = "sans-serif";
const TEXT: RGBColor = RGBColor(50, 50, 50);
/// For the first cache of each group and for those after it.
const COLOURS: [RGBColor; 3] = [RGBColor(0, 114, 178), RGBColor(150, 150, 150), RGBColor(205, 205, 205)];

pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) groups: Vec<Group>,
}

pub(crate) struct Group {
    pub(crate) name: String,
    /// In the order of the subjects.
    pub(crate) values: Vec<f64>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error>>;

/// Writes an SVG file.
pub(crate) fn draw(path: &Path, unit: &str, subjects: &[&str], panels: &[Panel]) -> Drawn {
    let size = (PANEL.0 as u32 * panels.len() as u32, (TOP + PANEL.1) as u32);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE)?;
        legend(&area, unit, subjects)?;
        let (_, below) = area.split_vertically(TOP);
        for (area, panel) in below.split_evenly((1, panels.len())).iter().zip(panels) {
            bars(area, panel)?;
        }
        area.present()?;
    }
    std::fs::write(path, svg)?;
    Ok(())
}

fn legend(area: &Area<'_>, unit: &str, subjects: &[&str]) -> Drawn {
    let mut left = MARGIN.0;
    for (subject, colour) in subjects.iter().zip(COLOURS) {
        area.draw(&Rectangle::new([(left, 16), (left + 14, 30)], colour.filled()))?;
        text(area, subject, (left + 20, 23), 16, HPos::Left)?;
        left += 50 + 9 * subject.len() as i32;
    }
    text(area, unit, (left + 10, 23), 16, HPos::Left)
}

fn bars(area: &Area<'_>, panel: &Panel) -> Drawn {
    let (left, right) = (MARGIN.0, PANEL.0 - MARGIN.0 / 2);
    let (top, bottom) = (MARGIN.1, PANEL.1 - 28);
    text(area, &panel.title, (left, 12), 16, HPos::Left)?;
    let highest = panel.groups.iter().flat_map(|group| &group.values).copied().fold(0.0, f64::max);
    let width = (right - left) / panel.groups.len() as i32;
    for (place, group) in panel.groups.iter().enumerate() {
        let start = left + place as i32 * width;
        let bar = (width - 16) / group.values.len() as i32;
        for (place, (value, colour)) in group.values.iter().zip(COLOURS).enumerate() {
            let from = start + place as i32 * bar;
            let height = (value / highest * f64::from(bottom - top)).round() as i32;
            let corners = [(from, bottom - height), (from + bar - 3, bottom)];
            area.draw(&Rectangle::new(corners, colour.filled()))?;
            let figure = format!("{value:.*}", if *value < 10.0 { 1 } else { 0 });
            text(area, &figure, (from + bar / 2 - 1, bottom - height - 9), 14, HPos::Center)?;
        }
        text(area, &group.name, (start + (width - 16) / 2, bottom + 14), 15, HPos::Center)?;
    }
    area.draw(&PathElement::new([(left, bottom), (right - 16, bottom)], TEXT))?;
    Ok(())
}

fn text(area: &Area<'_>, text: &str, at: (i32, i32), size: i32, side: HPos) -> Drawn {
    let style = (FONT, size, &TEXT).into_text_style(area).pos(Pos::new(side, VPos::Center));
    area.draw(&Text::new(text.to_owned(), at, style))?;
    Ok(())
}
