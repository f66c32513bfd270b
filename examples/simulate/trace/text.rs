//! Traces that are text, line by line.

use super::{Names, Numbers, Requests};
use crate::fault::{Found, Place};
use crate::input::Input;

/// A line that asks for more blocks at once is taken for damage: 8 GiB of 512-byte sectors.
const MOST_BLOCKS: u64 = 1 << 24;

pub(super) fn read_keys(input: &mut Input, requests: &mut Requests) -> Result<(), Found> {
    let mut known = Names::default();
    let mut ends_in_star = false;
    each_line(input, requests, |line, requests| {
        let mut tokens = line.tokens();
        let Some(key) = tokens.next() else { return Ok(()) };
        if let Some(second) = tokens.next() {
            let reason = "more than one token: a line has one key; for the key in column N say \
                          --format csv --column N --delimiter tab (or another character)";
            return Err(line.fault(second, reason));
        }
        if let Some(comma) = key.find(',') {
            let reason = "a comma: a line has one key; for the key in column N say --format csv --column N, \
                          for keys with commas in them --format csv --column 1 --delimiter tab";
            return Err(line.fault(&key[comma..], reason));
        }
        ends_in_star = key == "*";
        requests.push(known.number(key));
        Ok(())
    })?;
    if ends_in_star {
        requests.notes.push(
            "the last line, *, counts as a key: if it is the end mark of LIRS's traces, say --format lirs"
                .into(),
        );
    }
    Ok(())
}

pub(super) fn read_lis(input: &mut Input, requests: &mut Requests) -> Result<(), Found> {
    let mut known = Numbers::default();
    each_line(input, requests, |line, requests| {
        let fields = line.tokens().map(|token| line.number(token)).collect::<Result<Vec<_>, _>>()?;
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

pub(super) fn read_lirs(input: &mut Input, requests: &mut Requests) -> Result<(), Found> {
    let mut known = Numbers::default();
    let mut has_ended = false;
    each_line(input, requests, |line, requests| {
        let mut tokens = line.tokens();
        let Some(block) = tokens.next() else { return Ok(()) };
        if has_ended {
            return Err(line.fault(block, "behind the line *, which ends the trace"));
        }
        if let Some(second) = tokens.next() {
            return Err(line.fault(second, "more than one token: a line has one block number"));
        }
        if block == "*" {
            has_ended = true;
        } else {
            requests.push(known.number(line.number(block)?));
        }
        Ok(())
    })?;
    if !has_ended && requests.wants_more() {
        requests.notes.push("no line * at the end, which LIRS's traces have: the file may be cut off".into());
    }
    Ok(())
}

/// Gives the lines to `take` until there are no more, or enough requests came of them.
pub(super) fn each_line(
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
pub(super) struct Line<'a> {
    input: &'a Input,
    pub(super) number: u64,
    start: u64,
    pub(super) text: &'a str,
}

impl<'a> Line<'a> {
    /// Refuses bytes that no text has: numbers in binary are often valid UTF-8.
    fn new(input: &'a Input, number: u64, start: u64, bytes: &'a [u8]) -> Result<Self, Found> {
        let place = |at: usize| Place::Line(number, input.offset(start + at as u64));
        let text = std::str::from_utf8(bytes)
            .map_err(|error| Found::new(place(error.valid_up_to()), "not UTF-8, so no text: see --format"))?;
        match bytes.iter().position(|byte| byte.is_ascii_control() && !byte.is_ascii_whitespace()) {
            Some(at) => Err(Found::new(place(at), "a control character, so no text: see --format")),
            // Some editors put a byte order mark before the first line.
            None => {
                let without = text.trim_start_matches('\u{feff}');
                let start = start + (text.len() - without.len()) as u64;
                Ok(Self { input, number, start, text: without })
            }
        }
    }

    /// Splits the line at blanks.
    fn tokens(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.text.split_ascii_whitespace()
    }

    fn number(&self, token: &str) -> Result<u64, Found> {
        token.parse().map_err(|error| self.fault(token, format!("{token:?}: {error}")))
    }

    /// `part` must be a part of the line's text.
    fn place(&self, part: &str) -> Place {
        let before = part.as_ptr().addr() - self.text.as_ptr().addr();
        Place::Line(self.number, self.input.offset(self.start + before as u64))
    }

    pub(super) fn fault(&self, part: &str, reason: impl std::fmt::Display) -> Found {
        Found::new(self.place(part), reason)
    }
}
