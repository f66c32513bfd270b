//! A history of entries that have left: fingerprints of their hashes, each with a coarse time and a flag.
//!
//! A table of buckets, each of eight records of four bytes, half a cache line together. A hash picks its bucket; there is
//! no chaining. Two hashes of one bucket are taken for the same when their tags agree: with full buckets, about one
//! absent key in 4,000 is found all the same.
//!
//! ```text
//! bucket:  | 8 x tag (15 bits, not 0) and flag (1 bit) | 8 x time (16 bits) |      tag and flag 0: empty
//! hash:    | bucket (bits 16..48) | tag (bits 1..16)  |
//! ```
//!
//! A bucket is a queue, its lanes the places: a shift by one lane lets a record in at the low end and the oldest out at the
//! high one, and empty places are always the highest. So nothing is searched for but a tag, in all lanes at once. Of two
//! records of one hash the newer is found; the older one goes the way of all.
//!
//! Times are the owner's.
//!
//! # Snapshots
//!
//! A bucket is saved as it is. In a history of another size a record's bucket is no longer known for sure, as the hash is
//! not; it covers a part of the hashes, and the record goes to every new bucket that covers some of these.

/// Bits of one record in each of its bucket's two words.
const LANE: u32 = 16;
const WAYS: usize = 8;
/// The lowest bit of each lane: in the word of the tags these are the flags.
const ONES: u128 = u128::MAX / 0xffff;
/// The highest bit of each lane.
const TOPS: u128 = ONES << (LANE - 1);
/// A bucket is two words, and should not stand across two cache lines.
const BUCKET_BYTES: usize = 32;

/// What is remembered of an entry that has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// A coarse time, as its owner counts it.
    pub(crate) time: u16,
    /// One bit of the owner's choice.
    pub(crate) flag: bool,
}

/// The history. Without [`reserve`](Self::reserve) it remembers nothing.
pub(crate) struct Ghost {
    /// For each bucket the word of its tags and the word of its times, after `first` unused words.
    words: Vec<u128>,
    first: usize,
    buckets: usize,
}

impl Ghost {
    pub(crate) fn new() -> Self {
        Self { words: Vec::new(), first: 0, buckets: 0 }
    }

    /// How many records it has room for.
    pub(crate) fn records(&self) -> usize {
        self.buckets * WAYS
    }

    /// Makes room for at least so many records. If it has to grow for that, it forgets everything, and grows by an eighth
    /// more than asked, so that it seldom has to.
    pub(crate) fn reserve(&mut self, records: usize) {
        if records > self.records() {
            let records = if self.buckets == 0 { records } else { records + records / 8 };
            self.clear(records.div_ceil(WAYS));
        }
    }

    /// Forgets everything and goes on with so many buckets.
    fn clear(&mut self, buckets: usize) {
        self.buckets = buckets;
        // Zeroed by the allocator: memory is taken only when it is used. Which does not know the buckets' alignment.
        self.words = vec![0; 2 * buckets + 1];
        self.first = self.words.as_ptr().align_offset(BUCKET_BYTES).min(1);
    }

    /// Writes everything that it remembers.
    pub(crate) fn save(&self, words: &mut Vec<u64>) {
        for &word in &self.words[self.first..][..2 * self.buckets] {
            words.extend_from_slice(&[word as u64, (word >> 64) as u64]);
        }
    }

    /// What [`save`](Self::save) wrote.
    pub(crate) fn restored(words: &[u64]) -> Self {
        let (pairs, _) = words.as_chunks::<2>();
        let mut ghost = Self::new();
        ghost.clear(pairs.len() / 2);
        let buckets = ghost.words.iter_mut().skip(ghost.first).take(2 * ghost.buckets);
        for (word, &[low, high]) in buckets.zip(pairs) {
            *word = u128::from(high) << 64 | u128::from(low);
        }
        ghost
    }

    /// Takes over what another one remembers, instead of what it does itself. At the other's size if that is larger, but for
    /// no more than `most` records; else at its own, for which `retime` says what a time becomes, if it can still be told.
    pub(crate) fn take_over(&mut self, other: Self, most: usize, retime: &dyn Fn(u16) -> Option<u16>) {
        // What it takes to have `most` reserved, at the most.
        let most = (most + most / 8).next_multiple_of(WAYS);
        if (self.records()..=most).contains(&other.records()) {
            *self = other;
            return;
        }
        self.clear(self.buckets);
        if self.buckets == 0 {
            return;
        }
        // Place by place, the oldest first: what is put last is kept longest.
        for lane in (0..WAYS as u32).rev() {
            for bucket in 0..other.buckets {
                self.copy(&other, bucket, lane * LANE, retime);
            }
        }
    }

    /// Puts one record of another one into every bucket that it may belong to.
    fn copy(&mut self, other: &Self, bucket: usize, lane: u32, retime: &dyn Fn(u16) -> Option<u16>) {
        let at = other.first + 2 * bucket;
        let [tag, time] = [at, at + 1].map(|at| (other.words[at] >> lane) as u16);
        let Some(time) = retime(time).filter(|_| tag > 1) else { return };
        // The high bits of hashes from which a bucket's begin.
        let begin = |bucket: usize| ((bucket as u64) << 32).div_ceil(other.buckets as u64);
        let own = |high: u64| ((high * self.buckets as u64) >> 32) as usize;
        for bucket in own(begin(bucket))..=own(begin(bucket + 1) - 1) {
            let at = self.first + 2 * bucket;
            let [tags, times] = [at, at + 1].map(|at| self.words[at] << LANE);
            self.words[at] = tags | u128::from(tag);
            self.words[at + 1] = times | u128::from(time);
        }
    }

    /// Remembers `hash`, and in a full bucket forgets for it what was put there first.
    #[inline]
    pub(crate) fn put(&mut self, hash: u64, record: Record) {
        let Some([tags, times]) = self.bucket_of(hash) else { return };
        *tags = *tags << LANE | u128::from(tag_of(hash) | u16::from(record.flag));
        *times = *times << LANE | u128::from(record.time);
    }

    /// Forgets `hash` and says what was known of it.
    #[inline]
    pub(crate) fn take(&mut self, hash: u64) -> Option<Record> {
        let [tags, times] = self.bucket_of(hash)?;
        // A lane is 0 where the tag agrees. Of the lanes that this finds the lowest is right; others may be a carry's.
        let differ = (*tags & !ONES) ^ (ONES * u128::from(tag_of(hash)));
        let found = differ.wrapping_sub(ONES) & !differ & TOPS;
        if found == 0 {
            return None;
        }
        Some(take_lane(tags, times, found.trailing_zeros() / LANE * LANE))
    }

    /// The bucket that a hash belongs to: its high 32 bits as a fraction of all buckets. None while there are none.
    #[inline]
    fn bucket_of(&mut self, hash: u64) -> Option<&mut [u128; 2]> {
        let bucket = (((hash >> 16) & 0xffff_ffff) * self.buckets as u64) >> 32;
        self.words.get_mut(self.first + 2 * bucket as usize..)?.first_chunk_mut()
    }
}

/// Takes a record out of its bucket and closes the gap.
#[inline(never)]
fn take_lane(tags: &mut u128, times: &mut u128, lane: u32) -> Record {
    let record = Record { time: (*times >> lane) as u16, flag: *tags >> lane & 1 != 0 };
    let newer = (1 << lane) - 1;
    *tags = *tags & newer | *tags >> LANE & !newer;
    *times = *times & newer | *times >> LANE & !newer;
    record
}

/// The tag of a hash, above an empty place for the flag; never 0, which marks an empty place.
#[inline]
fn tag_of(hash: u64) -> u16 {
    (hash as u16 & !1).max(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
        ghost.put(3, record(1));
        assert_eq!(ghost.take(3), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 256 }, failure_persistence: None, ..ProptestConfig::default() })]
        /// Keys of one bucket, and of more tags than it has places.
        #[test]
        fn a_bucket_behaves_as_a_queue(ops in prop::collection::vec((any::<bool>(), 0..14u64, any::<u16>()), 0..80)) {
            let mut ghost = Ghost::new();
            ghost.reserve(8);
            let mut model = Vec::new();
            for (put, key, time) in ops {
                if put {
                    ghost.put(hash(key), record(time));
                    model.insert(0, (key, record(time)));
                    model.truncate(8);
                } else {
                    let found = model.iter().position(|&(other, _)| other == key);
                    prop_assert_eq!(ghost.take(hash(key)), found.map(|at| model.remove(at).1));
                }
            }
        }
    }

    #[test]
    fn tags_next_to_each_other_are_told_apart() {
        let mut ghost = Ghost::new();
        ghost.reserve(8);
        for tag in [2, 4, 6, 0xfffe, 0x8000, 0x7ffe] {
            ghost.put(tag, record(tag as u16));
        }
        // Above a lane that agrees, a carry could find one that does not; and the lowest two hashes have one tag.
        for tag in [0xfffc, 0x7ffc, 0x8002, 8] {
            assert_eq!(ghost.take(tag), None, "{tag:#x}");
        }
        for tag in [6, 2, 4, 0x7ffe, 0x8000, 0xfffe] {
            assert_eq!(ghost.take(tag), Some(record(tag as u16)), "{tag:#x}");
        }
    }

    #[test]
    fn a_bucket_stands_in_one_cache_line() {
        for records in [1, 8, 9, 1_000, 100_000] {
            let mut ghost = Ghost::new();
            ghost.reserve(records);
            for hash in [0, u64::MAX] {
                let bucket: &mut [u128; 2] = ghost.bucket_of(hash).unwrap();
                assert_eq!(bucket.as_ptr().addr() % BUCKET_BYTES, 0);
            }
        }
    }

    #[test]
    fn grows_by_forgetting_and_never_shrinks() {
        let mut ghost = Ghost::new();
        ghost.reserve(8);
        ghost.put(hash(1), record(1));
        ghost.reserve(4);
        assert_eq!(ghost.records(), 8);
        ghost.reserve(100);
        assert!((100..=128).contains(&ghost.records()));
        assert_eq!(ghost.take(hash(1)), None);
    }

    /// A hash with a tag of its own, and with a bucket that depends on all of it.
    fn spread(key: u64) -> u64 {
        ((key * 0x9e37_79b9) & 0xffff_ffff) << 16 | hash(key)
    }

    #[test]
    fn comes_back_at_every_size() {
        for (size, own, most) in
            [(200, 200, 200), (200, 100, 200), (200, 400, 400), (200, 120, 120), (8, 800, 800)]
        {
            let mut old = Ghost::new();
            old.reserve(size);
            // So few that no bucket of the smallest overflows.
            let keys = if size == 8 { 0..8 } else { 0..25 };
            keys.clone().for_each(|key| old.put(spread(key), record(key as u16)));
            let mut words = Vec::new();
            old.save(&mut words);
            let mut ghost = Ghost::new();
            ghost.reserve(own);
            ghost.put(spread(1_000), record(7));
            ghost.take_over(Ghost::restored(&words), most, &|time| (time != 3).then_some(time));
            assert!((own..=most.next_multiple_of(8)).contains(&ghost.records()));
            let as_it_was = ghost.records() == old.records();
            assert_eq!(as_it_was, (own..=most).contains(&size));
            for key in keys {
                let expected = (key != 3 || as_it_was).then_some(record(key as u16));
                assert_eq!(ghost.take(spread(key)), expected, "{key} of {size} in {own}");
            }
            assert_eq!(ghost.take(spread(1_000)), None);
        }
    }

    /// Of the records that no longer fit in, the newest stay.
    #[test]
    fn a_smaller_one_keeps_the_newest() {
        let mut old = Ghost::new();
        old.reserve(64);
        for key in 0..64 {
            // Bucket by bucket the same ages.
            let bucket = (key % 8) << 29;
            old.put(bucket << 16 | hash(key), record(key as u16));
        }
        let mut ghost = Ghost::new();
        ghost.reserve(16);
        let mut words = Vec::new();
        old.save(&mut words);
        ghost.take_over(Ghost::restored(&words), 16, &Some);
        let kept = (0..64).filter(|key| ghost.take((key % 8) << 45 | hash(*key)).is_some());
        assert!(kept.eq(48..64));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 256 }, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn any_words_make_a_ghost(words in prop::collection::vec(any::<u64>(), 0..70), own in 0..20usize, most in 0..100usize) {
            let mut ghost = Ghost::new();
            ghost.reserve(own);
            ghost.take_over(Ghost::restored(&words), most, &|time| Some(time / 2));
            prop_assert!(ghost.records() <= own.max(2 * words.len()).next_multiple_of(8));
            for key in 0..50 {
                ghost.put(spread(key), record(1));
                prop_assert_eq!(ghost.take(spread(key)).is_some(), ghost.records() > 0);
            }
        }
    }

    #[test]
    fn every_hash_has_a_bucket() {
        let mut ghost = Ghost::new();
        ghost.reserve(77);
        for hash in [0, 1, (1 << 48) - 1, u64::MAX, 1 << 47] {
            ghost.put(hash, record(7));
            assert_eq!(ghost.take(hash), Some(record(7)));
        }
    }
}
