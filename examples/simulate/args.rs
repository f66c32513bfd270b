//! What the command line says.

use crate::contender::{Contender, PEERS, POLICIES};
use crate::replay::{Contest, Segments};
use crate::trace::Format;
use crate::trace::csv::Layout;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Hit ratios of larder's eviction policies and of other caches on traces, beside Belady's clairvoyant optimum.
///
/// Each request is a get and, on a miss, an insert; every entry weighs 1. Without traces, a few made-up ones are run.
#[derive(Debug, Parser)]
#[command(name = "simulate")]
pub(crate) struct Args {
    /// Traces, or folders of them. A name tells the format: .u64, .oracleGeneral, .lis, .trc (LIRS), else text; .zst, .gz or .xz may follow.
    pub(crate) traces: Vec<PathBuf>,

    /// The format of all traces, whatever their names are.
    #[arg(long, requires_if("csv", "column"))]
    format: Option<FormatName>,

    /// The column of the key in each line, counted from 1, with --format csv.
    #[arg(long, value_name = "N", requires = "format")]
    column: Option<NonZeroUsize>,

    /// The delimiter of columns, with --format csv: a character, or "tab".
    #[arg(long, value_name = "CHAR", default_value = ",", value_parser = delimiter)]
    delimiter: char,

    /// What to run: policies of larder, quick_cache, moka [default: all; with --field all policies].
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    only: Vec<Contender>,

    /// The capacities to run them at, in entries [default: from 1 % to 40 % of the trace's distinct keys].
    #[arg(long, value_name = "N,..", value_delimiter = ',')]
    capacities: Vec<u64>,

    /// Segments of each of larder's caches: a number, or "auto" for what the cache takes by itself.
    #[arg(long, value_name = "N", default_value = "1")]
    segments: Segments,

    /// How often to try each cache, each time with other hashes: what is shown is the mean.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,

    /// Only the first N requests of each trace.
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroUsize>,

    /// Draw a plot of each trace, hit ratio over capacity, into this folder as SVG.
    #[arg(long, value_name = "DIR")]
    pub(crate) plot: Option<PathBuf>,

    /// Compare with the peers of this table (columns trace, capacity, opt, peers ..) at its capacities. Without traces, its folder is searched for them.
    #[arg(long, value_name = "TSV", conflicts_with_all = ["capacities", "limit"])]
    pub(crate) field: Option<PathBuf>,

    /// Print Markdown tables; of the comparison with a table, with the figures of each peer.
    #[arg(long)]
    pub(crate) markdown: bool,

    /// Run all traces one after another in one cache, beside a fresh cache for each.
    #[arg(long, requires_all = ["traces", "capacities"], conflicts_with_all = ["field", "plot"])]
    pub(crate) in_turn: bool,
}

/// The value of `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormatName {
    /// A little-endian u64 for each request.
    U64,
    /// libCacheSim's binary records of 24 bytes: time, key, size, next access.
    OracleGeneral,
    /// ARC's: first_block blocks ignored request_number on each line.
    Lis,
    /// LIRS's: a block number on each line, a line * at the end.
    Lirs,
    /// A key on each line.
    Text,
    /// The key in --column N of each line; a first line without a number is skipped as a header.
    Csv,
    /// Columns time, object, size.
    LibcachesimCsv,
    /// Twitter's cluster traces: time, key, key size, value size, client, operation, ttl; reads are the requests.
    Twitter,
}

fn delimiter(text: &str) -> Result<char, String> {
    match text.chars().collect::<Vec<_>>()[..] {
        [one] => Ok(one),
        _ if text == "tab" => Ok('\t'),
        _ => Err("expected one character, or \"tab\"".to_owned()),
    }
}

impl Args {
    /// Reads the command line; ends the program if that is wrong.
    pub(crate) fn read() -> Self {
        Self::checked(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    fn checked(args: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Self, clap::Error> {
        let args = Self::try_parse_from(args)?;
        if args.format != Some(FormatName::Csv) && (args.column.is_some() || args.delimiter != ',') {
            let reason = "--column and --delimiter go with --format csv";
            return Err(Self::command().error(ErrorKind::ArgumentConflict, reason));
        }
        Ok(args)
    }

    /// The format of all traces, if it is not for their names to tell.
    pub(crate) fn format(&self) -> Option<Format> {
        Some(match self.format? {
            FormatName::U64 => Format::U64,
            FormatName::OracleGeneral => Format::OracleGeneral,
            FormatName::Lis => Format::Lis,
            FormatName::Lirs => Format::Lirs,
            FormatName::Text => Format::Text,
            FormatName::Csv => {
                let key = self.column.expect("clap requires it").get();
                Format::Csv(Layout::Column { key, delimiter: self.delimiter })
            }
            FormatName::LibcachesimCsv => Format::Csv(Layout::LibCacheSim),
            FormatName::Twitter => Format::Csv(Layout::Twitter),
        })
    }

    pub(crate) fn contest(&self) -> Contest {
        let mut contenders = self.only.clone();
        if contenders.is_empty() {
            let peers = if self.field.is_none() { PEERS } else { &[] };
            let names = POLICIES.iter().chain(peers);
            contenders = names.map(|name| name.parse().expect("a name of ours")).collect();
        }
        Contest { contenders, segments: self.segments, seeds: self.seeds }
    }

    pub(crate) fn limit(&self) -> Option<usize> {
        self.limit.map(NonZeroUsize::get)
    }

    /// The capacities asked for, in order, or else `usual`.
    pub(crate) fn capacities_or(&self, usual: impl FnOnce() -> Vec<u64>) -> Vec<u64> {
        let mut capacities = if self.capacities.is_empty() { usual() } else { self.capacities.clone() };
        capacities.sort_unstable();
        capacities.dedup();
        capacities
    }
}

/// Capacities that show the way from a small cache to one that holds a good part of the keys.
pub(crate) fn spread(distinct: usize) -> Vec<u64> {
    [1, 2, 5, 10, 20, 40].map(|percent| (distinct as u64 * percent / 100).max(1)).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Args, clap::Error> {
        Args::checked([&["simulate"], args].concat())
    }

    #[test]
    fn the_definition_holds_together() {
        Args::command().debug_assert();
    }

    #[test]
    fn lists_are_read() {
        let args = parsed(&["--only", "lru,moka", "--capacities", "9,3,9", "a", "b"]).unwrap();
        assert_eq!(args.contest().contenders.len(), 2);
        assert_eq!(args.capacities_or(Vec::new), [3, 9]);
        assert_eq!(args.traces.len(), 2);
        let all = |args| parsed(args).unwrap().contest().contenders.len();
        assert_eq!(all(&[]), POLICIES.len() + PEERS.len());
        assert_eq!(all(&["--field", "f"]), POLICIES.len());
    }

    #[test]
    fn a_format_is_what_its_name_and_column_say() {
        let format = |args| parsed(args).unwrap().format();
        assert_eq!(format(&["a.csv"]), None);
        assert_eq!(format(&["--format", "oracle-general"]), Some(Format::OracleGeneral));
        let columns = |key, delimiter| Some(Format::Csv(Layout::Column { key, delimiter }));
        assert_eq!(format(&["--format", "csv", "--column", "2"]), columns(2, ','));
        assert_eq!(format(&["--format", "csv", "--column", "1", "--delimiter", "tab"]), columns(1, '\t'));
        for args in [
            &["--format", "csv"][..],
            &["--column", "2"],
            &["--delimiter", ";"],
            &["--format", "twitter", "--column", "2"],
            &["--format", "csv", "--column", "0"],
            &["--format", "csv", "--column", "2", "--delimiter", "ab"],
        ] {
            assert!(parsed(args).is_err(), "{args:?}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for args in [
            &["--only", "nonesuch"],
            &["--segments", "0"],
            &["--limit", "0"],
            &["--capacities", "-1"],
            &["--seeds", "0"],
        ] {
            assert!(parsed(args).is_err(), "{args:?}");
        }
        assert!(parsed(&["--field", "f", "--limit", "5"]).is_err());
    }

    #[test]
    fn the_spread_has_no_empty_cache() {
        assert_eq!(spread(1_000), [10, 20, 50, 100, 200, 400]);
        assert!(spread(3).iter().all(|&capacity| capacity >= 1));
    }
}
