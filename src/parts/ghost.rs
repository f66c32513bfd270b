//! A history of entries that have left: fingerprints of their hashes, each with a coarse time and a flag.
//!
//! A table of buckets, each of eight records of four bytes, half a cache line together. A hash picks its bucket; there is
//! no chaining and no order beyond what the times tell. Two hashes of one bucket are taken for the same when their
//! tags agree: with full buckets, about one absent key in 4,000 is found all the same.
//!
//! ```text
//! record:  | tag (15 bits, not 0) | flag (1 bit) | time (16 bits) |      0: empty
//! hash:    | bucket (bits 16..48) | tag (bits 1..16)  |
//! ```
//!
//! Times are the owner's: any clock that goes round in 16 bits, slowly enough that a record is nearly always replaced
//! before the clock has gone round once. A record older than that looks younger than it is.

const WAYS: usize = 8;
const EMPTY: u32 = 0;
const TAG_SHIFT: u32 = 17;
const FLAG: u32 = 1 << 16;

/// What is remembered of an entry that has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// A coarse time, as its owner counts it.
    pub(crate) time: u16,
    /// One bit of the owner's choice.
    pub(crate) flag: bool,
}

#[derive(Clone, Copy)]
#[repr(align(32))]
struct Bucket([u32; WAYS]);

/// The history. Without [`reserve`](Self::reserve) it remembers nothing.
pub(crate) struct Ghost {
    buckets: Vec<Bucket>,
}

impl Ghost {
    pub(crate) fn new() -> Self {
        Self { buckets: Vec::new() }
    }

    /// How many records it has room for.
    pub(crate) fn records(&self) -> usize {
        self.buckets.len() * WAYS
    }

    /// Makes room for at least so many records. If it has to grow for that, it forgets everything, and grows by an eighth
    /// more than asked, so that it seldom has to.
    pub(crate) fn reserve(&mut self, records: usize) {
        if records > self.records() {
            let records = if self.buckets.is_empty() { records } else { records + records / 8 };
            self.buckets = vec![Bucket([EMPTY; WAYS]); records.div_ceil(WAYS)];
        }
    }

    /// Remembers `hash`: in place of what has the same tag, else at an empty place, else in place of the oldest.
    pub(crate) fn put(&mut self, hash: u64, record: Record, now: u16) {
        let Some(bucket) = self.bucket_of(hash) else { return };
        let Bucket(records) = &mut self.buckets[bucket];
        let tag = tag_of(hash);
        // The place most worth giving up, without a branch on what is there.
        let mut best = 0;
        for (way, &old) in records.iter().enumerate() {
            let age = u32::from(now.wrapping_sub(old as u16));
            let worth = if old == EMPTY { 1 << 16 } else { age };
            let worth = if old >> TAG_SHIFT == tag { 1 << 17 } else { worth };
            best = best.max(worth << 3 | way as u32);
        }
        let place = best as usize % WAYS;
        let flag = if record.flag { FLAG } else { 0 };
        records[place] = tag << TAG_SHIFT | flag | u32::from(record.time);
    }

    /// Forgets `hash` and says what was known of it.
    pub(crate) fn take(&mut self, hash: u64) -> Option<Record> {
        let bucket = self.bucket_of(hash)?;
        let tag = tag_of(hash);
        let Bucket(records) = &mut self.buckets[bucket];
        let ways = records.iter().enumerate();
        let found =
            ways.fold(0u32, |found, (way, &record)| found | u32::from(record >> TAG_SHIFT == tag) << way);
        if found == 0 {
            return None;
        }
        let record = std::mem::replace(&mut records[found.trailing_zeros() as usize % WAYS], EMPTY);
        Some(Record { time: record as u16, flag: record & FLAG != 0 })
    }

    /// Which bucket a hash belongs to: its high 32 bits as a fraction of all buckets. None while there are none.
    fn bucket_of(&self, hash: u64) -> Option<usize> {
        let bucket = (((hash >> 16) & 0xffff_ffff) * self.buckets.len() as u64) >> 32;
        (!self.buckets.is_empty()).then_some(bucket as usize)
    }
}

/// The tag of a hash; never 0, which marks an empty place.
fn tag_of(hash: u64) -> u32 {
    ((hash as u32 & 0xffff) >> 1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(time: u16) -> Record {
        Record { time, flag: time % 2 == 1 }
    }

    /// A hash of the only bucket with a tag of its own.
    fn hash(key: u64) -> u64 {
        (key + 1) << 1
    }

    #[test]
    fn remembers_nothing_without_room() {
        let mut ghost = Ghost::new();
        ghost.put(3, record(1), 1);
        assert_eq!(ghost.take(3), None);
    }

    #[test]
    fn one_bucket_replaces_the_oldest_across_the_turn_of_the_clock() {
        let mut ghost = Ghost::new();
        ghost.reserve(8);
        let start = u16::MAX - 5;
        for key in 0..12 {
            let now = start.wrapping_add(key as u16);
            ghost.put(hash(key), record(now), now);
        }
        for key in 0..12 {
            let now = start.wrapping_add(key as u16);
            assert_eq!(ghost.take(hash(key)), (key >= 4).then(|| record(now)), "key {key}");
            assert_eq!(ghost.take(hash(key)), None, "a record is taken once");
        }
    }

    #[test]
    fn a_key_has_one_record() {
        let mut ghost = Ghost::new();
        ghost.reserve(8);
        for key in 0..8 {
            ghost.put(hash(key), record(key as u16), key as u16);
        }
        assert!(ghost.take(hash(5)).is_some());
        // There is an empty place now, but the key's own record comes first.
        ghost.put(hash(2), record(8), 8);
        assert_eq!(ghost.take(hash(2)), Some(record(8)));
        assert_eq!(ghost.take(hash(2)), None);
        assert_eq!(ghost.take(hash(0)), Some(record(0)));
    }

    #[test]
    fn grows_by_forgetting_and_never_shrinks() {
        let mut ghost = Ghost::new();
        ghost.reserve(8);
        ghost.put(hash(1), record(1), 1);
        ghost.reserve(4);
        assert_eq!(ghost.records(), 8);
        ghost.reserve(100);
        assert!((100..=128).contains(&ghost.records()));
        assert_eq!(ghost.take(hash(1)), None);
    }

    #[test]
    fn every_hash_has_a_bucket() {
        let mut ghost = Ghost::new();
        ghost.reserve(77);
        for hash in [0, 1, (1 << 48) - 1, u64::MAX, 1 << 47] {
            ghost.put(hash, record(7), 7);
            assert_eq!(ghost.take(hash), Some(record(7)));
        }
    }
}
