//! What the terminal shows.

use crate::field::{Field, FieldRow};
use crate::replay::{Contest, Ratios, Relay};
use crate::trace::Trace;
use std::io::{self, Write};

/// The table's figures are rounded to this many hundredths; the optimum must agree with it so far.
const ROUNDING: f64 = 0.01;

/// The hit ratios of one trace; `*` marks the best contender of a row.
pub(crate) fn trace(
    out: &mut dyn Write,
    trace: &Trace,
    contest: &Contest,
    rows: &[Ratios],
) -> io::Result<()> {
    writeln!(out, "{}, hit ratios in percent", heading(trace))?;
    let mut table = Table::new(["capacity", "opt "]);
    table.header(contest.contenders.iter().map(|contender| format!("{contender} ")));
    for row in rows {
        let mut cells = vec![grouped(row.capacity), figure(row.optimum)];
        cells.extend(marked(row));
        table.rows.push(cells);
    }
    table.write(out)?;
    writeln!(out)
}

/// What each trace loses when others have been through the cache before it.
pub(crate) fn in_turn(
    out: &mut dyn Write,
    traces: &[Trace],
    contest: &Contest,
    relays: &[Relay],
) -> io::Result<()> {
    writeln!(
        out,
        "Hit ratios in percent in a fresh cache for each trace, and by how many points they are lower"
    )?;
    writeln!(out, "in one cache that serves them all, one after another:\n")?;
    for relay in relays {
        let mut table = Table::new([format!("{} entries", grouped(relay.capacity))]);
        table.left = &[0];
        table.header(
            contest.contenders.iter().flat_map(|contender| [contender.to_string(), "lower by".to_owned()]),
        );
        let sides = || relay.fresh.iter().zip(&relay.in_turn);
        for (index, trace) in traces.iter().enumerate() {
            let cells = sides().flat_map(|(fresh, later)| loss(fresh[index], later[index]));
            table.rows.push(std::iter::once(trace.name().to_owned()).chain(cells).collect());
        }
        for (name, weights) in ["mean of the traces", "of all requests"].iter().zip(&weights(traces)) {
            let cells = sides().flat_map(|(fresh, later)| loss(mean(fresh, weights), mean(later, weights)));
            table.rows.push(std::iter::once((*name).to_owned()).chain(cells).collect());
        }
        table.write(out)?;
        writeln!(out)?;
    }
    Ok(())
}

/// What a trace counts in the mean of the traces, and in that of all requests.
fn weights(traces: &[Trace]) -> [Vec<f64>; 2] {
    let requests = traces.iter().map(|trace| trace.keys().len() as f64);
    [vec![1.0; traces.len()], requests.collect()]
}

/// For each contender by how many points these means are lower.
pub(crate) fn mean_losses(traces: &[Trace], relay: &Relay) -> impl Iterator<Item = [f64; 2]> {
    let weights = weights(traces);
    relay.fresh.iter().zip(&relay.in_turn).map(move |(fresh, later)| {
        weights.each_ref().map(|weights| mean(fresh, weights) - mean(later, weights))
    })
}

fn loss(fresh: f64, later: f64) -> [String; 2] {
    [format!("{fresh:.2}"), signed(fresh - later)]
}

fn mean(ratios: &[f64], weights: &[f64]) -> f64 {
    ratios.iter().zip(weights).map(|(ratio, weight)| ratio * weight).sum::<f64>()
        / weights.iter().sum::<f64>()
}

/// A trace's name and size.
pub(crate) fn heading(trace: &Trace) -> String {
    let (requests, distinct) = (grouped(trace.keys().len() as u64), grouped(trace.distinct() as u64));
    format!("{}: {requests} requests for {distinct} keys", trace.name())
}

/// A row of a field's table and what ours reach there.
pub(crate) struct Duel<'a> {
    pub(crate) theirs: &'a FieldRow,
    pub(crate) ours: Ratios,
}

impl Duel<'_> {
    /// How far ours are behind the best peer, in percentage points.
    fn behind(&self, ratio: f64) -> f64 {
        self.theirs.best.ratio - ratio
    }
}

/// Ours beside the best peers, row by row and on average.
pub(crate) fn field(out: &mut dyn Write, contest: &Contest, duels: &[Duel<'_>]) -> io::Result<()> {
    let mut table = Table::new(["trace", "capacity", "opt ", "best peer", ""]);
    table.left = &[0, 4];
    table.header(contest.contenders.iter().map(|contender| format!("{contender} ")));
    table.header(["behind".to_owned()]);
    for duel in duels {
        let Duel { theirs, ours } = duel;
        let mut cells = vec![theirs.trace.clone(), grouped(theirs.capacity), figure(ours.optimum)];
        cells.extend([figure(theirs.best.ratio), theirs.best.name.clone()]);
        cells.extend(marked(ours));
        cells.push(signed(duel.behind(ours.best())));
        table.rows.push(cells);
    }
    table.write(out)?;
    writeln!(out, "* the best of ours; behind: best peer less that, in percentage points\n")?;
    means(out, contest, duels)
}

fn means(out: &mut dyn Write, contest: &Contest, duels: &[Duel<'_>]) -> io::Result<()> {
    writeln!(
        out,
        "Best peer less ours over {} rows, in percentage points (below zero is ahead):",
        duels.len()
    )?;
    let mut table = Table::new(["", "mean", "worst", "level or ahead in"]);
    table.left = &[0];
    for (column, contender) in contest.contenders.iter().enumerate() {
        let distances = duels.iter().map(|duel| duel.behind(duel.ours.reached[column]));
        table.rows.push(summary(contender.to_string(), distances.collect()));
    }
    let nearest = duels.iter().map(|duel| duel.behind(duel.ours.best()));
    table.rows.push(summary("nearest of ours".to_owned(), nearest.collect()));
    table.write(out)
}

fn summary(name: String, distances: Vec<f64>) -> Vec<String> {
    let mean = distances.iter().sum::<f64>() / distances.len() as f64;
    let worst = distances.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // Level is what prints as level: the table has no more digits.
    let level = distances.iter().filter(|&&distance| distance < 0.005).count();
    vec![name, signed(mean), signed(worst), format!("{level} rows")]
}

/// Says whether the optimum of this program is that of the table: if not, one of them measured something else.
pub(crate) fn optimum(out: &mut dyn Write, field: &Field, duels: &[Duel<'_>]) -> io::Result<()> {
    let off = |duel: &&Duel<'_>| (duel.theirs.optimum - duel.ours.optimum).abs() > ROUNDING;
    for Duel { theirs, ours } in duels.iter().filter(off) {
        let (trace, capacity) = (&theirs.trace, theirs.capacity);
        writeln!(out, "{trace}:{capacity}: opt is {:.3}, the table has {:.2}", ours.optimum, theirs.optimum)?;
    }
    let agree = duels.iter().filter(|duel| !off(duel)).count();
    writeln!(out, "\nopt agrees with the table in {agree} of {} rows.", duels.len())?;
    match field.rows.len() - duels.len() {
        0 => Ok(()),
        missing => writeln!(out, "{missing} of the table's rows were left out: their traces were not given."),
    }
}

fn marked(ratios: &Ratios) -> impl Iterator<Item = String> + use<'_> {
    let best = format!("{:.2}", ratios.best());
    ratios.reached.iter().map(move |&ratio| {
        let text = format!("{ratio:.2}");
        let mark = if text == best { '*' } else { ' ' };
        format!("{text}{mark}")
    })
}

/// Room for a mark is left, so that the points stand below each other.
fn figure(ratio: f64) -> String {
    format!("{ratio:.2} ")
}

/// A distance, with a sign unless it is nothing.
pub(crate) fn signed(points: f64) -> String {
    match format!("{points:+.2}").as_str() {
        "+0.00" | "-0.00" => "0.00".to_owned(),
        text => text.to_owned(),
    }
}

/// A number with a comma at each third digit.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Columns as wide as their widest cell.
struct Table {
    rows: Vec<Vec<String>>,
    /// The columns whose text stands at the left; that of the others stands at the right.
    left: &'static [usize],
}

impl Table {
    fn new<const N: usize>(header: [impl Into<String>; N]) -> Self {
        Self { rows: vec![header.map(Into::into).to_vec()], left: &[] }
    }

    fn header(&mut self, more: impl IntoIterator<Item = String>) {
        self.rows[0].extend(more);
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let width = |column: usize| self.rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.rows[0].len()).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                let cell = if self.left.contains(&column) {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                };
                line += &format!("  {cell}");
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_stand_in_groups() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn all_that_print_as_the_best_are_marked() {
        let ratios = Ratios { capacity: 1, optimum: 9.0, reached: vec![5.001, 5.003, 4.0], unlucky: vec![] };
        assert_eq!(marked(&ratios).collect::<Vec<_>>(), ["5.00*", "5.00*", "4.00 "]);
    }

    #[test]
    fn nothing_has_no_sign() {
        assert_eq!([0.004, -0.004, 0.5, -1.0].map(signed), ["0.00", "0.00", "+0.50", "-1.00"]);
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["name", "n"]);
        table.left = &[0];
        table.rows.push(vec!["x".to_owned(), "100".to_owned()]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "  name    n\n  x     100\n");
    }
}
