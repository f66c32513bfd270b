//! What larder has to keep to.

use super::rounds::{median, quantile};

pub(crate) struct Bar {
    pub(crate) what: String,
    pub(crate) allowed: f64,
    /// Round by round.
    pub(crate) measured: Vec<f64>,
}

pub(crate) fn print_bars(bars: &[Bar]) {
    if bars.is_empty() {
        return;
    }
    println!("| bar | at most | measured (quartiles of the rounds) | met? |\n| --- | --- | --- | --- |");
    for Bar { what, allowed, measured } in bars {
        let met = if median(measured) <= *allowed { "yes" } else { "**no**" };
        println!("| {what} | {allowed} | {} | {met} |", spread(measured));
    }
    println!();
}

/// The median, with the quartiles in brackets.
pub(crate) fn spread(measured: &[f64]) -> String {
    let [low, middle, high] = [0.25, 0.5, 0.75].map(|part| quantile(measured, part));
    format!("{middle:.2} ({low:.2}..{high:.2})")
}

/// Round by round.
pub(crate) fn ratios(above: &[f64], below: &[f64]) -> Vec<f64> {
    above.iter().zip(below).map(|(above, below)| above / below).collect()
}
