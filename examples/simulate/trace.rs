//! Traces: what was asked for, in order, read from the formats that cache research publishes them in.
//!
//! | name ends in | content |
//! | --- | --- |
//! | `.u64` | a little-endian `u64` for each request |
//! | `.lis` | the ARC paper's set; a line is `first_block blocks ignored request_number` and asks for each of the blocks |
//! | anything else | text: a key on each line, any token without blanks; empty lines do not count |
//!
//! Each of them may be compressed: then `.zst` follows. Keys are numbered in the order in which they come first. So no
//! two keys are ever taken for one, as they could be were tokens hashed, and tables are indexed by key.

use crate::fault::{Fault, Found, Place};
use crate::input::{Compression, Input};
use ahash::RandomState;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What a folder is searched for. A file given by its own name may be called anything.
const EXTENSIONS: [&str; 5] = ["u64", "lis", "txt", "keys", "trace"];

/// Positions and keys are 32 bits wide, and Belady's algorithm needs one number that is none of them.
const MOST_REQUESTS: usize = u32::MAX as usize - 1;

/// A line that asks for more blocks at once is taken for damage: 8 GiB of 512-byte sectors.
const MOST_BLOCKS: u64 = 1 << 24;

/// The requests of one trace.
#[derive(Debug)]
pub(crate) struct Trace {
    name: String,
    keys: Vec<u32>,
    distinct: usize,
}

impl Trace {
    /// At most `limit` requests of a file.
    pub(crate) fn read(path: &Path, limit: Option<usize>) -> Result<Self, Fault> {
        let (format, compression) = kind(path);
        Input::open(path, compression)
            .and_then(|input| parse(input, format, limit))
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
}

/// The trace files that `path` stands for: itself, or those in a folder, by name. Folders in it are not entered.
pub(crate) fn files(path: &Path) -> Result<Vec<PathBuf>, Fault> {
    let fault = |error: std::io::Error| Found::new(Place::File, error).in_file(path);
    if !path.metadata().map_err(fault)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in path.read_dir().map_err(fault)? {
        let entry = entry.map_err(fault)?.path();
        if is_trace(&entry) {
            found.push(entry);
        }
    }
    if found.is_empty() {
        let wanted = EXTENSIONS.map(|extension| format!(".{extension}")).join(", ");
        let reason = format!("no traces in this folder: looked for {wanted}, alone or with .zst behind it");
        return Err(Found::new(Place::File, reason).in_file(path));
    }
    found.sort();
    Ok(found)
}

/// The file's name without what tells the format.
pub(crate) fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    stem(&name).unwrap_or(without_zst(&name)).to_owned()
}

fn is_trace(path: &Path) -> bool {
    path.is_file() && path.file_name().is_some_and(|name| stem(&name.to_string_lossy()).is_some())
}

fn stem(name: &str) -> Option<&str> {
    let name = without_zst(name);
    EXTENSIONS.iter().find_map(|extension| name.strip_suffix(extension)?.strip_suffix('.'))
}

fn without_zst(name: &str) -> &str {
    name.strip_suffix(".zst").unwrap_or(name)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    U64,
    Lis,
    Text,
}

fn kind(path: &Path) -> (Format, Compression) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let plain = without_zst(&name);
    let compression = if plain.len() < name.len() { Compression::Zstd } else { Compression::None };
    let format = match plain.rsplit_once('.') {
        Some((_, "u64")) => Format::U64,
        Some((_, "lis")) => Format::Lis,
        _ => Format::Text,
    };
    (format, compression)
}

fn parse(mut input: Input, format: Format, limit: Option<usize>) -> Result<Requests, Found> {
    let mut requests = Requests::new(limit);
    match format {
        Format::U64 => read_u64(&mut input, &mut requests)?,
        Format::Lis => read_lis(&mut input, &mut requests)?,
        Format::Text => read_text(&mut input, &mut requests)?,
    }
    if requests.keys.is_empty() {
        return Err(Found::new(Place::Byte(input.offset(input.position())), "the trace is empty"));
    }
    Ok(requests)
}

fn read_u64(input: &mut Input, requests: &mut Requests) -> Result<(), Found> {
    let mut known = Numbers::default();
    let mut buffer = vec![0; 1 << 16];
    while requests.wants_more() {
        let filled = input.fill(&mut buffer)?;
        let whole = buffer[..filled].chunks_exact(8);
        let rest = whole.remainder();
        for bytes in whole.take(requests.wanted()) {
            let bytes = bytes.try_into().expect("chunks of eight");
            requests.push(known.number(u64::from_le_bytes(bytes)));
        }
        if !rest.is_empty() && requests.wants_more() {
            let start = input.position() - rest.len() as u64;
            let reason = format!("cut off: a key has 8 bytes, here are {}", rest.len());
            return Err(Found::new(Place::Byte(input.offset(start)), reason));
        }
        if filled < buffer.len() {
            break;
        }
    }
    requests.check_length(Place::File)
}

fn read_text(input: &mut Input, requests: &mut Requests) -> Result<(), Found> {
    let mut known: HashMap<Box<str>, u32, RandomState> = HashMap::default();
    each_line(input, requests, |line, requests| {
        let mut tokens = line.tokens();
        let Some(key) = tokens.next() else { return Ok(()) };
        if let Some(second) = tokens.next() {
            return Err(line.fault(second, "more than one token: a line has one key"));
        }
        let number = match known.get(key) {
            Some(&number) => number,
            None => {
                let number = known.len() as u32;
                known.insert(key.into(), number);
                number
            }
        };
        requests.push(number);
        Ok(())
    })
}

fn read_lis(input: &mut Input, requests: &mut Requests) -> Result<(), Found> {
    let mut known = Numbers::default();
    each_line(input, requests, |line, requests| {
        let mut fields = Vec::with_capacity(4);
        for token in line.tokens() {
            let number: u64 =
                token.parse().map_err(|error| line.fault(token, format!("{token:?}: {error}")))?;
            fields.push(number);
        }
        let [start, blocks, _, _] = fields[..] else {
            let reason =
                format!("{} fields, expected first_block blocks ignored request_number", fields.len());
            return if fields.is_empty() { Ok(()) } else { Err(line.fault(line.text, reason)) };
        };
        let end = start.checked_add(blocks).filter(|_| blocks <= MOST_BLOCKS);
        let Some(end) = end else {
            return Err(line.fault(line.text, format!("asks for {blocks} blocks from block {start} on")));
        };
        for block in (start..end).take(requests.wanted()) {
            requests.push(known.number(block));
        }
        Ok(())
    })
}

/// Gives the lines to `take` until there are no more, or enough requests came of them.
fn each_line(
    input: &mut Input,
    requests: &mut Requests,
    mut take: impl FnMut(&Line<'_>, &mut Requests) -> Result<(), Found>,
) -> Result<(), Found> {
    let mut bytes = Vec::new();
    for number in 1.. {
        let start = input.position();
        input.line(&mut bytes)?;
        if bytes.is_empty() || !requests.wants_more() {
            break;
        }
        let line = Line::new(input, number, start, &bytes)?;
        take(&line, requests)?;
        requests.check_length(line.place(line.text))?;
    }
    Ok(())
}

/// A line of text that knows where it stands.
struct Line<'a> {
    input: &'a Input,
    number: u64,
    start: u64,
    text: &'a str,
}

impl<'a> Line<'a> {
    fn new(input: &'a Input, number: u64, start: u64, bytes: &'a [u8]) -> Result<Self, Found> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self { input, number, start, text }),
            Err(error) => {
                let offset = input.offset(start + error.valid_up_to() as u64);
                Err(Found::new(Place::Line(number, offset), "not UTF-8, so no text"))
            }
        }
    }

    /// What stands between blanks. Some editors put a byte order mark before the first line.
    fn tokens(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.text.trim_start_matches('\u{feff}').split_ascii_whitespace()
    }

    /// `part` must be a part of the line's text.
    fn place(&self, part: &str) -> Place {
        let before = part.as_ptr().addr() - self.text.as_ptr().addr();
        Place::Line(self.number, self.input.offset(self.start + before as u64))
    }

    fn fault(&self, part: &str, reason: impl std::fmt::Display) -> Found {
        Found::new(self.place(part), reason)
    }
}

/// Requests as they come in.
#[derive(Debug)]
struct Requests {
    keys: Vec<u32>,
    distinct: usize,
    limit: usize,
}

impl Requests {
    fn new(limit: Option<usize>) -> Self {
        // One more than can be served, so that a trace that is too long shows.
        let limit = limit.unwrap_or(usize::MAX).min(MOST_REQUESTS + 1);
        Self { keys: Vec::new(), distinct: 0, limit }
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
        Trace { name, keys: self.keys, distinct: self.distinct }
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

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
