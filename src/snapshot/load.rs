//! From a file to a cache.

use super::Snapshot;
use super::codec::Codec;
use super::frame::Reader;
use super::header::Header;
use super::record::{COMPLETE, ENTRY, WORDS, add_words, entry};
use super::{PROGRESS_EVERY, SnapshotReport};
use crate::cache::{Cache, Stored};
use crate::clock::nanos;
use crate::error::SnapshotError;
use crate::segment::{Arrival, Back, Given, Kept, Life, Offer, Rest, Seen};
use std::hash::{BuildHasher, Hash};
use std::io::Read;
use std::time::SystemTime;

/// So many entries before it is its turn, the processor is told of an entry's place in the index.
const AHEAD: usize = 16;

/// What has been read and is to go into the cache, when it is sure that the file is whole.
struct Staged<K, V> {
    /// The hottest first.
    entries: Vec<(K, V, Known)>,
    words: Vec<Vec<u64>>,
    has_all_words: bool,
    /// What was not even decoded, because it is too much for the cache.
    left_out: u64,
}

/// What is known of an entry that has been read. All of them are in memory at once, and most have next to nothing to be known.
enum Known {
    Plain { note: Option<u64>, mark: u8, turn: u32 },
    More(Box<Kept>),
}

impl Known {
    fn new(kept: Kept) -> Self {
        let Kept { weight: 1, is_pinned: false, tags, given: Given::NOTHING, back } = &kept else {
            return Self::More(Box::new(kept));
        };
        match *back {
            Back { note, mark, turn, rest: Rest::ENDLESS } if tags.is_empty() => {
                Self::Plain { note, mark, turn }
            }
            _ => Self::More(Box::new(kept)),
        }
    }

    fn turn(&self) -> u32 {
        match self {
            Self::Plain { turn, .. } => *turn,
            Self::More(kept) => kept.back.turn,
        }
    }

    fn kept(self) -> Kept {
        match self {
            Self::Plain { note, mark, turn } => {
                let back = Back { note, mark, turn, rest: Rest::ENDLESS };
                Kept { weight: 1, is_pinned: false, tags: Vec::new(), given: Given::NOTHING, back }
            }
            Self::More(kept) => *kept,
        }
    }
}

pub(super) fn load<K, V, S, C>(
    mut snapshot: Snapshot<'_, K, V, S, C>,
    from: impl Read,
) -> Result<SnapshotReport, SnapshotError>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher + 'static,
    C: Codec<K> + Codec<V>,
{
    let mut reader = Reader::new(from, snapshot.max_bytes.unwrap_or(u64::MAX));
    let bytes = reader.header()?;
    let offset = reader.offset();
    let header = Header::from_bytes(&bytes);
    let header = header.ok_or(SnapshotError::Damaged { offset, what: "the header makes no sense" })?;
    let ours = snapshot.header(0);
    ours.check(&header)?;
    let staged = stage(&mut snapshot, &header, &mut reader)?;
    let mut report = SnapshotReport { bytes: reader.offset(), left_out: staged.left_out, entries: 0 };

    let downtime = snapshot.downtime.unwrap_or_else(|| {
        // A clock that was set back tells nothing; one that is moved by hand has nothing to do with the time of day.
        let since = SystemTime::now().duration_since(header.created).unwrap_or_default();
        if snapshot.cache.inner.rules.clock.is_manual() { Default::default() } else { since }
    });
    let downtime = nanos(downtime);
    let is_same_policy = header.policy == ours.policy;
    // The coldest first: as they came once, and so that those stay for which there is room.
    let mut entries = staged.entries;
    if is_same_policy && !snapshot.cache.inner.segments[0].records_reads() {
        // Its queues are not in the order of heat.
        entries.sort_by_key(|(.., known)| known.turn());
    }
    while let Some((key, value, known)) = entries.pop() {
        if let Some((later, ..)) = entries.len().checked_sub(AHEAD).and_then(|later| entries.get(later)) {
            let (hash, segment) = snapshot.cache.inner.locate(later);
            segment.prefetch(hash);
        }
        let mut kept = known.kept();
        if !is_same_policy {
            (kept.back.note, kept.back.mark) = (None, 0);
        }
        let is_own = kept.back.rest.is_own(header.time_to_live);
        let is_kept = kept.back.rest.pass(downtime) && snapshot.cache.put_back(key, value, &kept, is_own);
        report.entries += u64::from(is_kept);
        report.left_out += u64::from(!is_kept);
    }
    if is_same_policy && staged.has_all_words && !staged.words.is_empty() {
        let same_hashes = header.segments == ours.segments && header.hasher_probe == ours.hasher_probe;
        let words = staged.words.iter().cycle();
        for (segment, words) in snapshot.cache.inner.segments.iter().zip(words) {
            segment.restore_rest(words, same_hashes);
        }
    }
    Ok(report)
}

impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher + 'static,
{
    /// Puts an entry in, unless its key is there or being loaded. Says whether it did. If the life was its own, and not by the
    /// rules, it still is.
    fn put_back(&self, key: K, value: V, kept: &Kept, is_own: bool) -> bool {
        let rest = &kept.back.rest;
        let rules = self.inner.rules.life;
        let negative = self.inner.negative.as_ref().filter(|negative| (negative.is_it)(&value));
        let by_rules = if is_own { Life::ENDLESS.ttl } else { rules.ttl };
        let ttl = negative.map_or(by_rules, |negative| negative.ttl);
        let life = Life {
            // What is left of it, without jitter, if that is less.
            ttl: if rest.end <= ttl { Life::ENDLESS.ttl } else { ttl },
            tti: rest.idle.unwrap_or(rules.tti),
            given: rest.ttl.unwrap_or(0),
            took: if self.inner.is_early { rest.took } else { 0 },
            ..Life::ENDLESS
        };
        if kept.given != Given::NOTHING || rest.ttl.is_some() || rest.idle.is_some() {
            self.inner.note_given();
        }
        let is_limited = rest.is_limited() || negative.is_some();
        let mut arrival = Arrival {
            hash: self.inner.hash(&key),
            weight: kept.weight,
            pin: Some(kept.is_pinned),
            search: None,
            life: (self.inner.is_timed || is_limited).then_some(&life),
            tags: &kept.tags,
            given: kept.given,
            back: Some(&kept.back),
        };
        let offer = Offer::new(key, value, Seen::Before);
        matches!(self.store_ready(&mut arrival, offer), Stored::Yes)
    }
}

fn stage<K, V, S, C>(
    snapshot: &mut Snapshot<'_, K, V, S, C>,
    header: &Header,
    reader: &mut Reader<impl Read>,
) -> Result<Staged<K, V>, SnapshotError>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher + 'static,
    C: Codec<K> + Codec<V>,
{
    let mut staged = Staged { entries: Vec::new(), words: Vec::new(), has_all_words: false, left_out: 0 };
    let capacity = snapshot.cache.capacity();
    let (mut weight, mut seen) = (0_u64, 0_u64);
    while let Some((kind, record)) = reader.next()? {
        let is_known = match kind {
            ENTRY => match entry(record) {
                Some((key, value, kept)) => {
                    // What is too heavy for the whole cache keeps no other out.
                    let can_fit = kept.weight <= capacity;
                    weight = weight.saturating_add(if can_fit { kept.weight } else { 0 });
                    if can_fit && weight <= capacity {
                        let error = |source| SnapshotError::Decode { record: seen, source };
                        let key = snapshot.codec.decode(key).map_err(error)?;
                        let value = snapshot.codec.decode(value).map_err(error)?;
                        staged.entries.push((key, value, Known::new(kept)));
                    } else {
                        staged.left_out += 1;
                    }
                    seen += 1;
                    if seen % PROGRESS_EVERY == 0 {
                        (snapshot.progress)(seen, header.entries);
                    }
                    true
                }
                None => false,
            },
            WORDS => add_words(record, &mut staged.words).is_some(),
            COMPLETE => {
                staged.has_all_words = true;
                true
            }
            _ => false,
        };
        if !is_known {
            let what = "a record in the block before makes no sense";
            return Err(SnapshotError::Damaged { offset: reader.offset(), what });
        }
    }
    // Entries that were over when they were to be saved were counted, too.
    (snapshot.progress)(seen, seen);
    Ok(staged)
}
