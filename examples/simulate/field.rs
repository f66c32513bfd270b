//! Tables of what other caches reach, to stand beside.
//!
//! A table is text with tabs between its columns. The first line names them: `trace`, `capacity`, `opt`, and a column
//! for each peer; below come hit ratios in percent.

use crate::fault::{Fault, Found, Place};
use crate::input::{Compression, Input};
use std::path::Path;

/// What others reach.
#[derive(Debug, PartialEq)]
pub(crate) struct Field {
    pub(crate) peers: Vec<String>,
    pub(crate) rows: Vec<FieldRow>,
}

/// What others reach on one trace at one capacity.
#[derive(Debug, PartialEq)]
pub(crate) struct FieldRow {
    pub(crate) trace: String,
    pub(crate) capacity: u64,
    pub(crate) optimum: f64,
    /// In the order of [`Field::peers`].
    pub(crate) ratios: Vec<f64>,
    pub(crate) best: Peer,
}

/// The peer that leads a row.
#[derive(Debug, PartialEq)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) ratio: f64,
}

impl Field {
    pub(crate) fn read(path: &Path) -> Result<Self, Fault> {
        Input::open(path, Compression::None).and_then(parse).map_err(|found| found.in_file(path))
    }

    /// The traces in the table, each once.
    pub(crate) fn traces(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !names.contains(&row.trace.as_str()) {
                names.push(&row.trace);
            }
        }
        names
    }

    /// The capacities at which the table has figures of a trace.
    pub(crate) fn capacities(&self, trace: &str) -> Vec<u64> {
        self.rows.iter().filter(|row| row.trace == trace).map(|row| row.capacity).collect()
    }
}

fn parse(mut input: Input) -> Result<Field, Found> {
    let mut peers: Option<Vec<String>> = None;
    let mut rows = Vec::new();
    let mut bytes = Vec::new();
    for number in 1.. {
        let start = input.position();
        input.line(&mut bytes)?;
        if bytes.is_empty() {
            break;
        }
        let fault = |reason| Found::new(Place::Line(number, input.offset(start)), reason);
        let text = std::str::from_utf8(&bytes).map_err(|error| fault(error.to_string()))?;
        let cells: Vec<&str> = text.trim_end_matches(['\r', '\n']).split('\t').collect();
        match &peers {
            None => peers = Some(header(&cells).map_err(fault)?),
            Some(peers) => rows.push(row(&cells, peers).map_err(fault)?),
        }
    }
    match peers {
        Some(peers) if !rows.is_empty() => Ok(Field { peers, rows }),
        _ => Err(Found::new(Place::File, "no rows in this table")),
    }
}

fn header(cells: &[&str]) -> Result<Vec<String>, String> {
    match cells {
        ["trace", "capacity", "opt", peers @ ..] if !peers.is_empty() => {
            Ok(peers.iter().map(|&name| name.to_owned()).collect())
        }
        _ => {
            Err("expected the columns trace, capacity, opt and at least one peer, with tabs between"
                .to_owned())
        }
    }
}

fn row(cells: &[&str], peers: &[String]) -> Result<FieldRow, String> {
    let [trace, capacity, optimum, ratios @ ..] = cells else {
        return Err(format!("{} columns, the first line has {}", cells.len(), peers.len() + 3));
    };
    if ratios.len() != peers.len() {
        return Err(format!("{} columns, the first line has {}", cells.len(), peers.len() + 3));
    }
    let ratios = ratios.iter().map(|cell| percent(cell)).collect::<Result<Vec<_>, _>>()?;
    let mut best: Option<Peer> = None;
    for (name, &ratio) in peers.iter().zip(&ratios) {
        if best.as_ref().is_none_or(|best| ratio > best.ratio) {
            best = Some(Peer { name: name.clone(), ratio });
        }
    }
    Ok(FieldRow {
        trace: (*trace).to_owned(),
        capacity: capacity.parse().map_err(|error| format!("capacity {capacity:?}: {error}"))?,
        optimum: percent(optimum)?,
        ratios,
        best: best.expect("the first line named a peer"),
    })
}

fn percent(cell: &str) -> Result<f64, String> {
    let ratio = cell.parse().ok().filter(|ratio| (0.0..=100.0).contains(ratio));
    ratio.ok_or_else(|| format!("{cell:?} is no percentage"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Offset;

    fn parsed(text: &'static [u8]) -> Result<Field, Found> {
        parse(Input::new(text, Compression::None))
    }

    #[test]
    fn the_best_peer_of_a_row() {
        let field = parsed(b"trace\tcapacity\topt\ta\tb\nt\t5\t50.00\t1.5\t2.5\r\nt\t9\t60\t3\t2\n").unwrap();
        assert_eq!(field.rows[0].best, Peer { name: "b".to_owned(), ratio: 2.5 });
        assert_eq!(field.rows[1].best, Peer { name: "a".to_owned(), ratio: 3.0 });
        assert_eq!((&field.peers[1], field.rows[1].ratios[1]), (&"b".to_owned(), 2.0));
        assert_eq!(field.traces(), ["t"]);
        assert_eq!(field.capacities("t"), [5, 9]);
    }

    #[test]
    fn faults_have_a_place() {
        let place = |text| parsed(text).unwrap_err().place;
        assert_eq!(place(b""), Place::File);
        assert_eq!(place(b"trace\tcapacity\topt\ta\n"), Place::File);
        assert_eq!(place(b"capacity\ttrace\n"), Place::Line(1, Offset::OfFile(0)));
        for row in [
            &b"trace\tcapacity\topt\ta\nt\t5\t50\n"[..],
            b"trace\tcapacity\topt\ta\nt\tx\t50\t3\n",
            b"trace\tcapacity\topt\ta\nt\t5\t50\t101\n",
            b"trace\tcapacity\topt\ta\nt\t5\tNaN\t3\n",
            b"trace\tcapacity\topt\ta\n\xff\t5\t50\t3\n",
            b"trace\tcapacity\topt\ta\n\n",
        ] {
            assert_eq!(place(row), Place::Line(2, Offset::OfFile(21)));
        }
    }
}
