//! From a cache to a file.

use super::Snapshot;
use super::codec::Codec;
use super::frame::Writer;
use super::record::{COMPLETE, ENTRY, WORDS, put_entry, records_of_words};
use super::{PROGRESS_EVERY, SnapshotReport};
use crate::error::SnapshotError;
use crate::segment::{Order, Place, Segment};
use std::hash::{BuildHasher, Hash};
use std::io::Write;

/// Entries that are encoded at a time. They stay in memory meanwhile, also if they leave the cache.
const AT_ONCE: usize = 32;

/// Entries for which a segment is locked, even if the last of them are a little colder than those of another segment.
const AT_LEAST: usize = 8;

/// Encoded entries, one after another.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    key: Vec<u8>,
}

impl Batch {
    /// Encodes the entries of some places, after so many others.
    fn fill<K, V>(
        &mut self,
        segment: &Segment<K, V>,
        places: &[Place],
        before: u64,
        codec: &(impl Codec<K> + Codec<V>),
    ) -> Result<(), SnapshotError> {
        self.bytes.clear();
        self.ends.clear();
        let mut found = Vec::with_capacity(places.len());
        segment.look_up(places, &mut found);
        for (found, kept) in &found {
            let (key, value) = found.entry();
            let error = |source| SnapshotError::Encode { record: before + self.ends.len() as u64, source };
            self.key.clear();
            codec.encode(key, &mut self.key).map_err(error)?;
            put_entry(&mut self.bytes, &self.key, kept);
            codec.encode(value, &mut self.bytes).map_err(error)?;
            self.ends.push(self.bytes.len());
        }
        Ok(())
    }

    fn records(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, &end)| &self.bytes[begin..end])
    }
}

pub(super) fn save<K, V, S, C>(
    snapshot: Snapshot<'_, K, V, S, C>,
    to: impl Write,
) -> Result<SnapshotReport, SnapshotError>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher + 'static,
    C: Codec<K> + Codec<V>,
{
    let segments = &snapshot.cache.inner.segments;
    let orders: Vec<_> = segments.iter().map(Segment::order).collect();
    let all = orders.iter().map(|order| order.places.len() as u64).sum();
    let mut writer = Writer::new(to, snapshot.max_bytes);
    writer.header(&snapshot.header(all).to_bytes()?)?;
    let Snapshot { codec, mut progress, .. } = snapshot;
    let mut report = SnapshotReport::default();
    let mut batch = Batch::default();
    let mut rest: Vec<_> = orders.iter().map(|order| &order.places[..]).collect();
    let mut seen = 0;
    while let Some((index, places)) = next(&mut rest).filter(|_| report.left_out == 0) {
        batch.fill(&segments[index], places, report.entries, &codec)?;
        for record in batch.records() {
            // What comes after the first that does not fit is colder, even if it is shorter.
            if report.left_out == 0 && writer.put(ENTRY, record)? {
                report.entries += 1;
            } else {
                report.left_out += 1;
            }
        }
        let before = seen;
        seen += places.len() as u64;
        if seen / PROGRESS_EVERY != before / PROGRESS_EVERY {
            progress(seen, all);
        }
    }
    if report.left_out > 0 {
        report.left_out += all - seen;
    } else {
        put_words(&mut writer, &orders)?;
    }
    report.bytes = writer.finish()?;
    progress(all, all);
    Ok(report)
}

/// Takes the hottest of what is left of the segments' orders, all from one segment. Returns which, and the places. Of segments
/// that are equally hot the one comes that has the most left, so that they take turns.
fn next<'a>(rest: &mut [&'a [Place]]) -> Option<(usize, &'a [Place])> {
    let heat = |places: &[Place]| places.first().map(|place| place.heat);
    let hottest = (0..rest.len()).max_by_key(|&index| (heat(rest[index]), rest[index].len()))?;
    let others = rest.iter().enumerate().filter(|&(index, _)| index != hottest);
    let limit = others.filter_map(|(_, places)| heat(places)).max().unwrap_or(0);
    let places = rest[hottest];
    let due = places.iter().take(AT_ONCE).take_while(|place| place.heat >= limit).count();
    let count = due.max(AT_LEAST).min(places.len());
    let (taken, left) = places.split_at(count);
    rest[hottest] = left;
    (count > 0).then_some((hottest, taken))
}

/// What the policies know beside the entries, if there is room for all of it.
fn put_words(writer: &mut Writer<impl Write>, orders: &[Order]) -> Result<(), SnapshotError> {
    for (segment, order) in (0..).zip(orders) {
        for record in records_of_words(segment, &order.rest) {
            if !writer.put(WORDS, &record)? {
                return Ok(());
            }
        }
    }
    writer.put(COMPLETE, &[])?;
    Ok(())
}
