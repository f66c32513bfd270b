//! Traces in columns: a request on each line, its key in one of the columns.

use super::text::{Line, each_line};
use super::{FEW, Names, Requests};
use crate::fault::Found;
use crate::input::Input;

/// Which column has the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Column `key`, counted from 1.
    Column { key: usize, delimiter: char },
    /// libCacheSim's usual columns: time, object, size; more may follow.
    LibCacheSim,
    /// Twitter's cluster traces: time, anonymized key, key size, value size, client, operation, time to live.
    Twitter,
}

/// The operations of Twitter's traces that read, and those that do not.
const READS: [&str; 2] = ["get", "gets"];
const WRITES: [&str; 9] = ["set", "add", "replace", "cas", "append", "prepend", "delete", "incr", "decr"];

pub(super) fn read(input: &mut Input, requests: &mut Requests, layout: Layout) -> Result<(), Found> {
    let mut known = Names::default();
    let mut columns = None;
    let mut times = Times::default();
    let mut writes = 0_u64;
    each_line(input, requests, |line, requests| {
        if line.text.trim().is_empty() {
            return Ok(());
        }
        let fields = match layout {
            Layout::Column { delimiter, .. } => fields(line, delimiter)?,
            Layout::LibCacheSim => fields(line, ',')?,
            Layout::Twitter => twitter_fields(line)?,
        };
        if columns.is_none() && !fields.iter().any(|field| is_number(field)) {
            columns = Some(fields.len());
            requests.notes.push(format!(
                "line {}, {:?}, has no number: skipped as a header",
                line.number,
                line.text.trim()
            ));
            return Ok(());
        }
        let expected = *columns.get_or_insert(fields.len());
        if fields.len() != expected {
            let reason = format!(
                "{} columns, and the first line has {expected}: a field with a delimiter in it needs quotes",
                fields.len()
            );
            return Err(line.fault(line.text, reason));
        }
        let key = match layout {
            Layout::Column { key, .. } => column(line, &fields, key)?,
            Layout::LibCacheSim => libcachesim_key(line, &fields)?,
            Layout::Twitter => match twitter_read(line, &fields)? {
                Some(key) => key,
                None => {
                    writes += 1;
                    return Ok(());
                }
            },
        };
        if key.is_empty() {
            return Err(line.fault(key, "the key is empty"));
        }
        times.note(key);
        requests.push(known.number(key));
        Ok(())
    })?;
    if writes > 0 {
        requests.notes.push(format!(
            "{writes} lines that do not read (set, delete ..) are left out: requests are get and gets"
        ));
    }
    if times.are_likely(requests.keys.len()) {
        requests
            .notes
            .push("the keys are numbers that never fall, as times do: does --column name the key?".into());
    }
    Ok(())
}

/// Splits a line. A field in quotes may have delimiters in it; a doubled quote stands for one, and stays doubled here,
/// which makes no two keys one.
fn fields<'a>(line: &Line<'a>, delimiter: char) -> Result<Vec<&'a str>, Found> {
    let mut fields = Vec::new();
    let mut rest = line.text.trim_end_matches(['\r', '\n']);
    loop {
        let (field, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)
                .ok_or_else(|| line.fault(rest, "a quote that this line does not close"))?,
            None => rest.split_at(rest.find(delimiter).unwrap_or(rest.len())),
        };
        fields.push(field.trim());
        match behind.strip_prefix(delimiter) {
            Some(next) => rest = next,
            None if behind.is_empty() => return Ok(fields),
            None => return Err(line.fault(behind, "text behind the closing quote")),
        }
    }
}

/// Returns the field up to its closing quote, and the rest of the line behind that.
fn quoted_field(quoted: &str) -> Option<(&str, &str)> {
    let mut from = 0;
    loop {
        let end = from + quoted[from..].find('"')?;
        match quoted[end + 1..].starts_with('"') {
            true => from = end + 2,
            false => return Some((&quoted[..end], &quoted[end + 1..])),
        }
    }
}

/// Splits off one field from the left and five from the right: keys may have commas in them.
fn twitter_fields<'a>(line: &Line<'a>) -> Result<Vec<&'a str>, Found> {
    let (time, rest) = line.text.trim_end().split_once(',').unwrap_or((line.text, ""));
    let mut fields: Vec<&str> = rest.rsplitn(6, ',').chain([time]).collect();
    fields.reverse();
    if fields.len() != 7 {
        let reason =
            "expected seven columns: time, key, key size, value size, client, operation, time to live";
        return Err(line.fault(line.text, reason));
    }
    Ok(fields)
}

/// Returns the key of a line that reads.
fn twitter_read<'a>(line: &Line<'a>, fields: &[&'a str]) -> Result<Option<&'a str>, Found> {
    for at in [0, 2, 3, 6] {
        if !is_number(fields[at]) {
            return Err(line.fault(fields[at], format!("column {} is no number, as Twitter's are", at + 1)));
        }
    }
    match fields[5] {
        operation if READS.contains(&operation) => Ok(Some(fields[1])),
        operation if WRITES.contains(&operation) => Ok(None),
        operation => Err(line.fault(operation, format!("{operation:?} is none of Twitter's operations"))),
    }
}

fn libcachesim_key<'a>(line: &Line<'a>, fields: &[&'a str]) -> Result<&'a str, Found> {
    match fields[..] {
        [time, key, size, ..] if is_number(time) && is_number(size) => Ok(key),
        _ => {
            let reason = "the columns are not time, object, size: say --format csv --column N";
            Err(line.fault(line.text, reason))
        }
    }
}

fn column<'a>(line: &Line<'a>, fields: &[&'a str], key: usize) -> Result<&'a str, Found> {
    let missing = || line.fault(line.text, format!("{} columns, so none is --column {key}", fields.len()));
    fields.get(key - 1).copied().ok_or_else(missing)
}

fn is_number(field: &str) -> bool {
    field.parse::<f64>().is_ok()
}

/// Tells keys from times, which never fall.
#[derive(Default)]
struct Times {
    last: Option<f64>,
    falls: bool,
}

impl Times {
    fn note(&mut self, key: &str) {
        if self.falls {
            return;
        }
        let now = key.parse::<f64>().ok();
        self.falls = now.is_none() || now < self.last;
        self.last = now;
    }

    fn are_likely(&self, requests: usize) -> bool {
        requests >= FEW && !self.falls
    }
}
