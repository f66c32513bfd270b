//! Tables to be put into a document. The best of a row is in bold.

use crate::field::Field;
use crate::replay::{Contest, Ratios, Relay};
use crate::report::{Duel, grouped, mean_losses, signed};
use crate::trace::Trace;
use std::io::{self, Write};

/// Hit ratios of all contenders: rows of a trace's name and what they reach there.
pub(crate) fn traces(out: &mut dyn Write, contest: &Contest, rows: &[(String, Ratios)]) -> io::Result<()> {
    let mut header = vec!["trace: capacity".to_owned(), "opt".to_owned()];
    header.extend(contest.contenders.iter().map(ToString::to_string));
    head(out, &header)?;
    for (name, ratios) in rows {
        let mut cells = vec![place(name, ratios.capacity), format!("{:.2}", ratios.optimum)];
        cells.extend(ratios.reached.iter().map(|&ratio| bold_from(ratios.best(), ratio)));
        row(out, &cells)?;
    }
    Ok(())
}

/// What the traces lose on average when others have been through the cache before them, in percentage points.
pub(crate) fn in_turn(
    out: &mut dyn Write,
    traces: &[Trace],
    contest: &Contest,
    relays: &[Relay],
) -> io::Result<()> {
    let mut header = vec!["capacity".to_owned()];
    header.extend(contest.contenders.iter().map(ToString::to_string));
    head(out, &header)?;
    for relay in relays {
        let mut cells = vec![grouped(relay.capacity)];
        cells.extend(
            mean_losses(traces, relay)
                .map(|[by_trace, by_request]| format!("{} ({})", signed(by_trace), signed(by_request))),
        );
        row(out, &cells)?;
    }
    Ok(())
}

/// The first of ours beside each of the peers, row by row; then all of ours; then how far each is behind the best peer.
pub(crate) fn field(
    out: &mut dyn Write,
    contest: &Contest,
    field: &Field,
    duels: &[Duel<'_>],
) -> io::Result<()> {
    let ours = contest.contenders[0].to_string();
    let columns = ["trace: capacity", "opt", &ours, "with the worst seed", "behind"].map(str::to_owned);
    head(out, &[columns.as_slice(), &field.peers].concat())?;
    for Duel { theirs, ours } in duels {
        let (best, first) = (theirs.best.ratio, ours.reached[0]);
        let mut cells = vec![place(&theirs.trace, theirs.capacity), format!("{:.2}", ours.optimum)];
        cells.push(bold_from(best, first));
        cells.extend([format!("{:.2}", ours.unlucky[0]), signed(best - first)]);
        cells.extend(theirs.ratios.iter().map(|&ratio| bold_from(best, ratio)));
        row(out, &cells)?;
    }
    if contest.contenders.len() > 1 {
        writeln!(out, "\nThis crate's policies:\n")?;
        let row = |duel: &Duel<'_>| (duel.theirs.trace.clone(), duel.ours.clone());
        traces(out, contest, &duels.iter().map(row).collect::<Vec<_>>())?;
    }
    summary(out, contest, field, duels)
}

/// Each column against the best peer, and ours against each peer.
fn summary(out: &mut dyn Write, contest: &Contest, field: &Field, duels: &[Duel<'_>]) -> io::Result<()> {
    let (count, ours) = (duels.len(), &contest.contenders[0]);
    writeln!(out, "\nOver these {count} rows, in percentage points (below zero is ahead):\n")?;
    let columns = ["", "behind the best peer: mean", "on the worst row"].map(str::to_owned);
    head(
        out,
        &[columns.as_slice(), &[format!("{ours} behind it: mean"), "on the worst row".to_owned()]].concat(),
    )?;
    let of_ours = |name: &str, ratio: &dyn Fn(&Ratios) -> f64| {
        let [mean, worst] = mean_and_worst(duels, |duel| duel.theirs.best.ratio - ratio(&duel.ours));
        [name.to_owned(), mean, worst, String::new(), String::new()]
    };
    for (index, contender) in contest.contenders.iter().enumerate() {
        row(out, &of_ours(&contender.to_string(), &|ours| ours.reached[index]))?;
    }
    if contest.contenders.len() > 1 {
        row(out, &of_ours("the nearest of these on each row", &Ratios::best))?;
    }
    for (index, peer) in field.peers.iter().enumerate() {
        let behind = |duel: &Duel<'_>| duel.theirs.best.ratio - duel.theirs.ratios[index];
        let ours = |duel: &Duel<'_>| duel.theirs.ratios[index] - duel.ours.reached[0];
        let [[mean, worst], [ours, ours_worst]] =
            [mean_and_worst(duels, behind), mean_and_worst(duels, ours)];
        row(out, &[peer.clone(), mean, worst, ours, ours_worst])?;
    }
    Ok(())
}

fn mean_and_worst(duels: &[Duel<'_>], behind: impl Fn(&Duel<'_>) -> f64) -> [String; 2] {
    let distances: Vec<f64> = duels.iter().map(behind).collect();
    let mean = distances.iter().sum::<f64>() / distances.len() as f64;
    [mean, distances.into_iter().fold(f64::NEG_INFINITY, f64::max)].map(signed)
}

fn place(trace: &str, capacity: u64) -> String {
    format!("{trace}: {}", grouped(capacity))
}

/// Bold from `best` on, as far as the digits show.
fn bold_from(best: f64, ratio: f64) -> String {
    let [best, ratio] = [best, ratio].map(|ratio| (ratio * 100.0).round() / 100.0);
    if ratio >= best { format!("**{ratio:.2}**") } else { format!("{ratio:.2}") }
}

fn head(out: &mut dyn Write, cells: &[String]) -> io::Result<()> {
    row(out, cells)?;
    row(out, &vec!["---".to_owned(); cells.len()])
}

fn row(out: &mut dyn Write, cells: &[String]) -> io::Result<()> {
    writeln!(out, "| {} |", cells.join(" | "))
}
