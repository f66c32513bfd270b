//! Traces in records of a fixed size.

use super::{Numbers, Requests};
use crate::fault::{Found, Place};
use crate::input::Input;

/// Records that are read at once.
const RECORDS: usize = 1 << 12;

/// How much of a file is looked at to see whether it has another format.
const HEAD: usize = 1 << 12;

pub(super) fn read_u64(input: &mut Input, requests: &mut Requests) -> Result<(), Found> {
    let mut known = Numbers::default();
    let mut head = Vec::with_capacity(HEAD);
    let read = each_record(input, requests, |bytes: &[u8; 8], requests| {
        if head.len() < HEAD {
            head.extend(bytes);
        }
        requests.push(known.number(u64::from_le_bytes(*bytes)));
    });
    if is_text(&head) {
        return Err(Found::new(Place::File, "this is text: say --format text, or what else it is"));
    }
    if is_oracle(&head) {
        let note = "this looks like libCacheSim's oracleGeneral, not like u64 keys: if it is, say --format oracle-general";
        requests.notes.push(note.into());
    }
    read
}

pub(super) fn read_oracle(input: &mut Input, requests: &mut Requests) -> Result<(), Found> {
    let mut known = Numbers::default();
    let mut check = OracleCheck::default();
    each_record(input, requests, |bytes, requests| {
        let record = Oracle::from_bytes(bytes);
        check.take(&record);
        requests.push(known.number(record.key));
    })?;
    let (wrong, all) = (check.wrong, check.records);
    if wrong > all / 100 {
        let reason = format!(
            "no oracleGeneral: in {wrong} of {all} records the time falls, or the next access is not behind the \
             record; see --format"
        );
        return Err(Found::new(Place::File, reason));
    }
    if wrong > 0 {
        requests.notes.push(format!(
            "{wrong} of {all} records have a time that falls, or a next access that is not behind them"
        ));
    }
    Ok(())
}

/// Gives the records to `take` until there are no more, or enough requests came of them.
fn each_record<const SIZE: usize>(
    input: &mut Input,
    requests: &mut Requests,
    mut take: impl FnMut(&[u8; SIZE], &mut Requests),
) -> Result<(), Found> {
    let mut buffer = vec![0; RECORDS * SIZE];
    while requests.wants_more() {
        let filled = input.fill(&mut buffer)?;
        let (whole, rest) = buffer[..filled].as_chunks();
        for bytes in whole.iter().take(requests.wanted()) {
            take(bytes, requests);
        }
        if !rest.is_empty() && requests.wants_more() {
            let start = input.position() - rest.len() as u64;
            let reason = format!("cut off: a request has {SIZE} bytes, here are {}", rest.len());
            return Err(Found::new(Place::Byte(input.offset(start)), reason));
        }
        if filled < buffer.len() {
            break;
        }
    }
    requests.check_length(Place::File)
}

/// A record of libCacheSim's `oracleGeneral`, packed and little-endian.
struct Oracle {
    time: u32,
    key: u64,
    size: u32,
    /// The number of the request that asks for the key next; -1 or the largest number if there is none.
    next: i64,
}

impl Oracle {
    fn from_bytes(bytes: &[u8; 24]) -> Self {
        let part = |at: usize| -> [u8; 4] { bytes[at..at + 4].try_into().expect("four bytes") };
        let long = |at: usize| -> [u8; 8] { bytes[at..at + 8].try_into().expect("eight bytes") };
        Self {
            time: u32::from_le_bytes(part(0)),
            key: u64::from_le_bytes(long(4)),
            size: u32::from_le_bytes(part(12)),
            next: i64::from_le_bytes(long(16)),
        }
    }
}

/// Counts the records that break a promise of the format.
#[derive(Default)]
struct OracleCheck {
    records: i64,
    time: u32,
    wrong: i64,
}

impl OracleCheck {
    fn take(&mut self, record: &Oracle) {
        // Requests are counted from 0 by some and from 1 by others.
        let is_behind = record.next == -1 || record.next > self.records;
        self.wrong += i64::from(record.time < self.time || !is_behind);
        self.time = record.time;
        self.records += 1;
    }
}

/// Few records break no promise by chance. Small keys of 8 bytes break none either, but have zeros where the size is.
fn is_oracle(head: &[u8]) -> bool {
    let (records, _) = head.as_chunks();
    let mut check = OracleCheck::default();
    let mut sized = 0;
    for record in records.iter().map(Oracle::from_bytes) {
        check.take(&record);
        sized += usize::from(record.size > 0);
    }
    records.len() >= 8 && check.wrong == 0 && sized > records.len() / 2
}

fn is_text(head: &[u8]) -> bool {
    head.contains(&b'\n') && head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace())
}
