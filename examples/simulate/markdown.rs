//! Tables to be put into a document.

use crate::field::Field;
use crate::replay::Contest;
use crate::report::{Duel, grouped, signed};
use std::io::{self, Write};

/// Ours beside each of the peers, row by row, and below how far each column is behind the best peer of each row.
pub(crate) fn field(
    out: &mut dyn Write,
    contest: &Contest,
    field: &Field,
    duels: &[Duel<'_>],
) -> io::Result<()> {
    let mut header = vec!["trace: capacity".to_owned(), "opt".to_owned()];
    for policy in &contest.policies {
        header.push(policy.to_string());
        if contest.seeds > 1 {
            header.push("worst seed".to_owned());
        }
        header.push("behind".to_owned());
    }
    header.extend(field.peers.iter().cloned());
    row(out, &header)?;
    row(out, &vec!["---".to_owned(); header.len()])?;
    for duel in duels {
        row(out, &cells(contest, duel))?;
    }
    summary(out, contest, field, duels)
}

fn cells(contest: &Contest, Duel { theirs, ours }: &Duel<'_>) -> Vec<String> {
    let best = theirs.best.ratio;
    let figure = |ratio: f64| if ratio >= best { format!("**{ratio:.2}**") } else { format!("{ratio:.2}") };
    let mut cells = vec![format!("{}: {}", theirs.trace, grouped(theirs.capacity))];
    cells.push(format!("{:.2}", ours.optimum));
    for (mean, unlucky) in ours.policies.iter().zip(&ours.unlucky) {
        cells.push(figure(*mean));
        if contest.seeds > 1 {
            cells.push(format!("{unlucky:.2}"));
        }
        cells.push(signed(best - mean));
    }
    cells.extend(theirs.ratios.iter().map(|&ratio| figure(ratio)));
    cells
}

/// Each column against the best peer, and ours against each peer.
fn summary(out: &mut dyn Write, contest: &Contest, field: &Field, duels: &[Duel<'_>]) -> io::Result<()> {
    let count = duels.len();
    writeln!(out, "\nOver these {count} rows, in percentage points (below zero is ahead):\n")?;
    writeln!(
        out,
        "| | behind the best peer: mean | on the worst row | {} behind it: mean | on the worst row |",
        contest.policies[0]
    )?;
    writeln!(out, "| --- | --- | --- | --- | --- |")?;
    for (index, policy) in contest.policies.iter().enumerate() {
        let behind = |duel: &Duel<'_>| duel.theirs.best.ratio - duel.ours.policies[index];
        row(
            out,
            &[vec![policy.to_string()], mean_and_worst(duels, behind), vec![String::new(); 2]].concat(),
        )?;
    }
    for (index, peer) in field.peers.iter().enumerate() {
        let behind = |duel: &Duel<'_>| duel.theirs.best.ratio - duel.theirs.ratios[index];
        let ours = |duel: &Duel<'_>| duel.theirs.ratios[index] - duel.ours.policies[0];
        row(out, &[vec![peer.clone()], mean_and_worst(duels, behind), mean_and_worst(duels, ours)].concat())?;
    }
    Ok(())
}

fn mean_and_worst(duels: &[Duel<'_>], behind: impl Fn(&Duel<'_>) -> f64) -> Vec<String> {
    let distances: Vec<f64> = duels.iter().map(behind).collect();
    let mean = distances.iter().sum::<f64>() / distances.len() as f64;
    vec![signed(mean), signed(distances.into_iter().fold(f64::NEG_INFINITY, f64::max))]
}

fn row(out: &mut dyn Write, cells: &[String]) -> io::Result<()> {
    writeln!(out, "| {} |", cells.join(" | "))
}
