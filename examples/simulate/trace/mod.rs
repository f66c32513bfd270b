//! Traces: what was asked for, in order, read from the formats that cache research publishes them in.
//!
//! | name ends in | `--format` | content |
//! | --- | --- | --- |
//! | `.u64` | `u64` | a little-endian `u64` for each request |
//! | `.oracleGeneral`, `.oracleGeneral.bin` | `oracle-general` | libCacheSim's records of 24 bytes: time, key, size, next access |
//! | `.lis` | `lis` | the ARC paper's set; a line is `first_block blocks ignored request_number` and asks for each of the blocks |
//! | `.trc` | `lirs` | the LIRS paper's set: a block number on each line, in the end a line `*` |
//! | `.csv` | `csv`, `libcachesim-csv`, `twitter` | a request on each line, its key in one column; the name does not tell which |
//! | anything else | `text` | a key on each line, any token without blanks and commas; empty lines do not count |
//!
//! Each of them may be compressed by zstd, gzip or xz: `.zst`, `.gz` or `.xz` may follow the name.
//!
//! Keys are numbered in the order in which they come first. So no two keys are ever taken for one, as they could be were
//! tokens hashed, and tables are indexed by key.
//!
//! A file read in a wrong format gives figures, too, and they mean nothing. So each reader checks what its format
//! promises. Content that cannot be right is a fault; content that is merely unlikely gives a note of the trace.

mod binary;
pub(crate) mod csv;
mod text;

use crate::fault::{Fault, Found, Place};
use crate::input::{Compression, Input};
use ahash::RandomState;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The extensions that a folder is searched for. A file given by its own name may be called anything.
const EXTENSIONS: [&str; 9] =
    ["u64", "oracleGeneral", "oracleGeneral.bin", "lis", "trc", "txt", "keys", "trace", "csv"];

/// Positions and keys are 32 bits wide, and Belady's algorithm needs one number that is none of them.
const MOST_REQUESTS: usize = u32::MAX as usize - 1;

/// Fewer requests say little about how often keys repeat.
const FEW: usize = 1_000;

/// The requests of one trace.
#[derive(Debug)]
pub(crate) struct Trace {
    name: String,
    keys: Vec<u32>,
    distinct: usize,
    notes: Vec<String>,
}

impl Trace {
    /// Reads at most `limit` requests of a file. Without a format, its name tells.
    pub(crate) fn read(path: &Path, format: Option<Format>, limit: Option<usize>) -> Result<Self, Fault> {
        let (name, compression) = without_compression(path);
        format
            .map_or_else(|| Format::of(&name), Ok)
            .and_then(|format| parse(Input::open(path, compression)?, format, limit))
            .map(|requests| requests.named(name_of(path)))
            .map_err(|found| found.in_file(path))
    }

    /// A trace that was not read from a file.
    pub(crate) fn from_keys(name: &str, keys: impl IntoIterator<Item = u64>) -> Self {
        let mut requests = Requests::new(None);
        let mut known = Numbers::default();
        for key in keys {
            requests.push(known.number(key));
        }
        requests.named(name.to_owned())
    }

    /// The first `limit` requests.
    pub(crate) fn cut(mut self, limit: usize) -> Self {
        self.keys.truncate(limit);
        self.distinct = self.keys.iter().max().map_or(0, |&key| key as usize + 1);
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// One number for each request; all are below [`distinct`](Self::distinct).
    pub(crate) fn keys(&self) -> &[u32] {
        &self.keys
    }

    pub(crate) fn distinct(&self) -> usize {
        self.distinct
    }

    /// Returns sentences about parts that were left out, and about doubts in the figures.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// The files that a path stands for.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) traces: Vec<PathBuf>,
    /// Everything else in the folder.
    pub(crate) skipped: Vec<PathBuf>,
}

/// Finds the trace files that `path` stands for: itself, or those in a folder, by name. Folders in it are not entered.
pub(crate) fn files(path: &Path) -> Result<Files, Fault> {
    let fault = |error: std::io::Error| Found::new(Place::File, error).in_file(path);
    if !path.metadata().map_err(fault)?.is_dir() {
        return Ok(Files { traces: vec![path.to_owned()], ..Files::default() });
    }
    let mut found = Files::default();
    for entry in path.read_dir().map_err(fault)? {
        let entry = entry.map_err(fault)?.path();
        if is_trace(&entry) { found.traces.push(entry) } else { found.skipped.push(entry) }
    }
    if found.traces.is_empty() {
        let reason = format!("no traces in this folder: looked for {}", wanted());
        return Err(Found::new(Place::File, reason).in_file(path));
    }
    found.traces.sort();
    found.skipped.sort();
    Ok(found)
}

/// Lists the names that a folder is searched for.
pub(crate) fn wanted() -> String {
    let endings = Compression::ENDINGS.map(|(ending, _)| ending).join(", ");
    let extensions = EXTENSIONS.map(|extension| format!(".{extension}")).join(", ");
    format!("{extensions}, alone or with one of {endings} behind it")
}

/// Returns the file's name without what tells the format.
pub(crate) fn name_of(path: &Path) -> String {
    let (name, _) = without_compression(path);
    stem(&name).unwrap_or(&name).to_owned()
}

fn is_trace(path: &Path) -> bool {
    path.is_file() && stem(&without_compression(path).0).is_some()
}

fn stem(name: &str) -> Option<&str> {
    EXTENSIONS.iter().find_map(|extension| before(name, extension)?.strip_suffix('.'))
}

/// Splits the extension that tells a compression off the file's name.
fn without_compression(path: &Path) -> (String, Compression) {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let mut known = Compression::ENDINGS.into_iter();
    known
        .find_map(|(ending, compression)| Some((before(&name, ending)?.to_owned(), compression)))
        .unwrap_or((name.to_string(), Compression::None))
}

/// Returns the part before `ending`, in upper or lower case.
fn before<'a>(name: &'a str, ending: &str) -> Option<&'a str> {
    let (start, end) = name.split_at_checked(name.len().checked_sub(ending.len())?)?;
    end.eq_ignore_ascii_case(ending).then_some(start)
}

/// How a file's content stands for requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    U64,
    OracleGeneral,
    Lis,
    Lirs,
    Text,
    Csv(csv::Layout),
}

impl Format {
    /// Returns what a name tells, without what tells the compression.
    fn of(name: &str) -> Result<Self, Found> {
        let known = [
            (".u64", Self::U64),
            (".oracleGeneral", Self::OracleGeneral),
            (".oracleGeneral.bin", Self::OracleGeneral),
            (".lis", Self::Lis),
            (".trc", Self::Lirs),
        ];
        let ends_in = |ending| before(name, ending).is_some();
        if ends_in(".csv") {
            let reason = "which column has the key? Say --format csv --column N, or for known columns \
                          --format libcachesim-csv or --format twitter";
            return Err(Found::new(Place::File, reason));
        }
        Ok(known.into_iter().find(|(ending, _)| ends_in(ending)).map_or(Self::Text, |(_, format)| format))
    }
}

fn parse(mut input: Input, format: Format, limit: Option<usize>) -> Result<Requests, Found> {
    let mut requests = Requests::new(limit);
    match format {
        Format::U64 => binary::read_u64(&mut input, &mut requests)?,
        Format::OracleGeneral => binary::read_oracle(&mut input, &mut requests)?,
        Format::Lis => text::read_lis(&mut input, &mut requests)?,
        Format::Lirs => text::read_lirs(&mut input, &mut requests)?,
        Format::Text => text::read_keys(&mut input, &mut requests)?,
        Format::Csv(layout) => csv::read(&mut input, &mut requests, layout)?,
    }
    if requests.keys.is_empty() {
        return Err(Found::new(Place::Byte(input.offset(input.position())), "the trace is empty"));
    }
    requests.doubt_repetition();
    Ok(requests)
}

/// Requests as they come in.
#[derive(Debug)]
struct Requests {
    keys: Vec<u32>,
    distinct: usize,
    limit: usize,
    notes: Vec<String>,
}

impl Requests {
    fn new(limit: Option<usize>) -> Self {
        // One more than can be served, so that a trace that is too long shows.
        let limit = limit.unwrap_or(usize::MAX).min(MOST_REQUESTS + 1);
        Self { keys: Vec::new(), distinct: 0, limit, notes: Vec::new() }
    }

    fn wanted(&self) -> usize {
        self.limit - self.keys.len()
    }

    fn wants_more(&self) -> bool {
        self.wanted() > 0
    }

    fn push(&mut self, key: u32) {
        self.keys.push(key);
        self.distinct = self.distinct.max(key as usize + 1);
    }

    fn check_length(&self, place: Place) -> Result<(), Found> {
        if self.keys.len() > MOST_REQUESTS {
            return Err(Found::new(place, format!("more than {MOST_REQUESTS} requests: use --limit")));
        }
        Ok(())
    }

    fn named(mut self, name: String) -> Trace {
        self.keys.shrink_to_fit();
        Trace { name, keys: self.keys, distinct: self.distinct, notes: self.notes }
    }

    /// Notes it if the keys repeat as no traffic's do: then it is not the keys that were read.
    fn doubt_repetition(&mut self) {
        let (requests, distinct) = (self.keys.len(), self.distinct);
        let repeated = requests - distinct;
        if requests < FEW {
            return;
        }
        if repeated < requests / 100 {
            self.notes.push(format!(
                "{repeated} of {requests} requests ask for a key that was asked for before, so no cache can help: \
                 if that is not so, the file has another format (see --format and --column in --help)"
            ));
        } else if distinct < 10 {
            self.notes.push(format!(
                "{requests} requests ask for {distinct} keys in all: if that is not so, the file has another format \
                 (see --format and --column in --help)"
            ));
        }
    }
}

/// Keys numbered in the order in which they come first.
#[derive(Default)]
struct Numbers(HashMap<u64, u32, RandomState>);

impl Numbers {
    fn number(&mut self, key: u64) -> u32 {
        let next = self.0.len() as u32;
        *self.0.entry(key).or_insert(next)
    }
}

/// Keys that are text, numbered likewise.
#[derive(Default)]
struct Names(HashMap<Box<str>, u32, RandomState>);

impl Names {
    fn number(&mut self, key: &str) -> u32 {
        if let Some(&number) = self.0.get(key) {
            return number;
        }
        let number = self.0.len() as u32;
        self.0.insert(key.into(), number);
        number
    }
}

#[cfg(test)]
mod tests;
