//! Bytes that are no snapshot, or one that was made to do harm: refused, or taken without any.
#![cfg(feature = "serde")]
#![allow(missing_docs)]

mod common;

use common::{policies, size};
use larder::{Cache, Clock, Codec, EvictionPolicy, Expiry, InsertOptions, SnapshotError};
use proptest::prelude::*;
use std::error::Error;
use std::time::Duration;

type Numbers = Cache<u64, String, ahash::RandomState>;

const NEVER: u64 = u64::MAX;

fn seeds() -> ahash::RandomState {
    ahash::RandomState::with_seeds(1, 2, 3, 4)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn small(policy: &EvictionPolicy, segments: usize) -> Numbers {
    Cache::builder()
        .max_capacity(12)
        .segments(segments)
        .eviction_policy(policy.clone())
        .clock(Clock::manual())
        .max_reads(9)
        .record_ages()
        .build_with_hasher(seeds())
        .unwrap()
}

/// A snapshot with some of everything.
fn with_all(policy: &EvictionPolicy) -> Vec<u8> {
    let cache = small(policy, 2);
    // Enough for some to be evicted, so that there is something to remember.
    for key in 0..30 {
        cache.insert(key, "a".to_owned());
        cache.get(&(key / 2));
    }
    cache.insert_with(40, "b".to_owned(), InsertOptions::new().pinned(true).weight(2).tags(["x", "y"]));
    cache.insert_with(41, "c".to_owned(), InsertOptions::new().ttl(secs(3)).tags(["x"]));
    cache.insert_with(42, "d".to_owned(), InsertOptions::new().ttl(secs(9)).tti(secs(2)).weight(0));
    cache.validate();
    let mut bytes = Vec::new();
    cache.snapshot().types("t").save_to(&mut bytes).unwrap();
    bytes
}

/// All that can be seen of a cache.
fn seen(cache: &Numbers) -> impl PartialEq + std::fmt::Debug + use<> {
    let mut entries: Vec<_> = cache.iter().collect();
    entries.sort();
    let metadata: Vec<_> = entries.iter().map(|entry| cache.metadata(&entry.0)).collect();
    let sizes = (cache.len(), cache.weighted_size(), cache.capacity());
    (entries, metadata, sizes, cache.hottest(100), cache.coldest(100))
}

/// A cache that is in use already.
fn in_use(policy: &EvictionPolicy) -> Numbers {
    let cache = small(policy, 2);
    for key in 35..45 {
        cache.insert_with(key, format!("mine {key}"), InsertOptions::new().tags(["x"]));
    }
    cache.get(&40);
    cache
}

#[test]
fn what_was_not_damaged_is_loaded() {
    for policy in policies() {
        let bytes = with_all(&policy);
        let cache = small(&policy, 2);
        let report = cache.snapshot().types("t").load_from(&bytes[..]).unwrap();
        cache.validate();
        assert_eq!((report.bytes, report.left_out), (bytes.len() as u64, 0), "{policy}");
        assert_eq!(report.entries, cache.len() as u64);
    }
}

#[test]
fn each_truncation_is_found() {
    for policy in policies() {
        let (bytes, cache) = (with_all(&policy), in_use(&policy));
        let before = seen(&cache);
        for len in (0..bytes.len()).step_by(size(1, 37)) {
            let result = cache.snapshot().types("t").load_from(&bytes[..len]);
            assert!(result.is_err(), "{policy}: {len} of {} bytes", bytes.len());
            cache.validate();
        }
        assert_eq!(seen(&cache), before, "{policy}");
    }
}

#[test]
fn each_changed_bit_is_found() {
    for policy in policies() {
        let (mut bytes, cache) = (with_all(&policy), in_use(&policy));
        let before = seen(&cache);
        for at in (0..bytes.len()).step_by(size(1, 37)) {
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                let result = cache.snapshot().types("t").load_from(&bytes[..]);
                assert!(result.is_err(), "{policy}: bit {bit} of byte {at}");
                bytes[at] ^= 1 << bit;
            }
            if at % 16 == 0 {
                cache.validate();
                assert_eq!(seen(&cache), before, "{policy}: byte {at}");
            }
        }
        assert_eq!(seen(&cache), before, "{policy}");
        cache.validate();
        cache.snapshot().types("t").load_from(&bytes[..]).unwrap();
    }
}

#[test]
fn what_does_not_belong_there_is_refused() {
    let policy = EvictionPolicy::lru();
    let (bytes, cache) = (with_all(&policy), in_use(&policy));
    let before = seen(&cache);
    let load = |bytes: &[u8]| cache.snapshot().types("t").load_from(bytes);
    for more in [&b"\0"[..], b"\n", &bytes.clone()] {
        let error = load(&[&bytes, more].concat()).unwrap_err();
        assert!(
            matches!(error, SnapshotError::Trailing { offset } if offset == bytes.len() as u64),
            "{error}"
        );
    }
    for other in [&b""[..], b"\x89", b"\x89LDR\r\n\x1a", b"\x89LDR\n\x1a\n\x01\x00", b"{\"version\": 1}"] {
        let error = load(other).unwrap_err();
        assert!(matches!(error, SnapshotError::NotASnapshot), "{error}");
    }
    let mut version = bytes.clone();
    version[8] = 1;
    assert!(matches!(load(&version).unwrap_err(), SnapshotError::Version { found: 1, supported: 2 }));
    let error = cache.snapshot().load_from(&bytes[..]).unwrap_err();
    assert!(matches!(error, SnapshotError::Types { .. }), "{error}");
    let error = cache.snapshot().types("u").load_from(&bytes[..]).unwrap_err();
    assert!(matches!(error, SnapshotError::Types { .. }), "{error}");
    let error = cache.snapshot().types("t").codec(Raw).load_from(&bytes[..]).unwrap_err();
    assert!(matches!(error, SnapshotError::Codec { .. }), "{error}");
    for less in 0..bytes.len() as u64 {
        let result = cache.snapshot().types("t").max_bytes(less).load_from(&bytes[..]);
        assert!(result.is_err(), "{less}");
    }
    assert_eq!(seen(&cache), before);
    cache.validate();
    cache.snapshot().types("t").max_bytes(bytes.len() as u64).load_from(&bytes[..]).unwrap();
}

/// Numbers and text as they are.
struct Raw;

impl Codec<u64> for Raw {
    fn name(&self) -> &str {
        "raw"
    }
    fn encode(&self, value: &u64, into: &mut Vec<u8>) -> Result<(), Box<dyn Error + Send + Sync>> {
        into.extend(value.to_le_bytes());
        Ok(())
    }
    fn decode(&self, bytes: &[u8]) -> Result<u64, Box<dyn Error + Send + Sync>> {
        Ok(u64::from_le_bytes(bytes.try_into()?))
    }
}

impl Codec<String> for Raw {
    fn name(&self) -> &str {
        "raw"
    }
    fn encode(&self, value: &String, into: &mut Vec<u8>) -> Result<(), Box<dyn Error + Send + Sync>> {
        into.extend(value.as_bytes());
        Ok(())
    }
    fn decode(&self, bytes: &[u8]) -> Result<String, Box<dyn Error + Send + Sync>> {
        Ok(String::from_utf8(bytes.to_vec())?)
    }
}

/// The format once more, as its description says, to write what no cache would.
mod format {
    fn crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |sum, &byte| {
            (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg()))
        })
    }

    pub(crate) fn varint(into: &mut Vec<u8>, mut number: u64) {
        while number >= 0x80 {
            into.push(number as u8 | 0x80);
            number >>= 7;
        }
        into.push(number as u8);
    }

    pub(crate) fn bytes(into: &mut Vec<u8>, bytes: &[u8]) {
        varint(into, bytes.len() as u64);
        into.extend(bytes);
    }

    pub(crate) struct File {
        pub(crate) bytes: Vec<u8>,
        chain: u32,
        blocks: u64,
        records: u64,
    }

    impl File {
        pub(crate) fn new(header: &[u8]) -> Self {
            let bytes = b"\x89LDR\r\n\x1a\n\x02\x00".to_vec();
            let mut file = Self { chain: crc(&bytes), bytes, blocks: 0, records: 0 };
            file.block(0, header);
            file
        }

        pub(crate) fn block(&mut self, kind: u8, payload: &[u8]) {
            let mut block = vec![kind];
            block.extend((payload.len() as u32).to_le_bytes());
            block.extend(payload);
            self.chain = crc(&[&self.chain.to_le_bytes()[..], &block].concat());
            self.bytes.extend(block);
            self.bytes.extend(self.chain.to_le_bytes());
            self.blocks += 1;
        }

        pub(crate) fn records(&mut self, kind: u8, records: &[Vec<u8>]) {
            let mut payload = Vec::new();
            for record in records {
                bytes(&mut payload, record);
            }
            if !records.is_empty() {
                self.block(kind, &payload);
                self.records += records.len() as u64;
            }
        }

        pub(crate) fn end(mut self) -> Vec<u8> {
            let totals = [self.blocks.to_le_bytes(), self.records.to_le_bytes()].concat();
            self.block(0xff, &totals);
            self.bytes
        }
    }
}

/// An entry as it stands in a file, sensible or not.
#[derive(Clone, Debug)]
struct Entry {
    key: u64,
    value: String,
    weight: Option<u64>,
    is_pinned: bool,
    tags: Option<Vec<u64>>,
    deadline: Option<u64>,
    end: Option<u64>,
    idle: Option<u64>,
    reads: Option<u64>,
    age: Option<u64>,
    ttl: Option<u64>,
    took: Option<u64>,
    has_own_weight: bool,
    has_own_tags: bool,
    note: u64,
    turn: u64,
    mark: u8,
}

impl Entry {
    fn new(key: u64) -> Self {
        Self {
            key,
            value: format!("theirs {key}"),
            weight: None,
            is_pinned: false,
            tags: None,
            deadline: None,
            end: None,
            idle: None,
            reads: None,
            age: None,
            ttl: None,
            took: None,
            has_own_weight: false,
            has_own_tags: false,
            note: 0,
            turn: 0,
            mark: 0,
        }
    }

    fn record(&self) -> Vec<u8> {
        let mut record = vec![0, 0];
        let mut flags = 0_u16;
        let tags = self.tags.as_ref().map(|tags| tags.len() as u64);
        let numbers = [
            (0, self.weight),
            (2, tags),
            (3, self.deadline),
            (4, self.end),
            (5, self.idle),
            (6, self.reads),
            (7, self.age),
            (8, self.ttl),
            (9, self.took),
        ];
        for (flag, number) in numbers {
            if let Some(number) = number {
                flags |= 1 << flag;
                format::varint(&mut record, number);
            }
        }
        for (flag, is_set) in [(1, self.is_pinned), (10, self.has_own_weight), (11, self.has_own_tags)] {
            flags |= u16::from(is_set) << flag;
        }
        record[..2].copy_from_slice(&flags.to_le_bytes());
        format::varint(&mut record, self.note);
        format::varint(&mut record, self.turn);
        record.push(self.mark);
        record.extend(self.tags.iter().flatten().flat_map(|tag| tag.to_le_bytes()));
        format::bytes(&mut record, &self.key.to_le_bytes());
        record.extend(self.value.as_bytes());
        record
    }
}

/// A file for a cache, as if it came from one with this policy and so many segments.
fn file(
    policy: &EvictionPolicy,
    segments: u32,
    probe: u64,
    entries: &[Entry],
    words: &[Vec<u64>],
) -> Vec<u8> {
    let mut header = 0_i128.to_le_bytes().to_vec();
    for name in ["t", "", "raw", "raw", &policy.to_string()] {
        format::bytes(&mut header, name.as_bytes());
    }
    header.extend(12_u64.to_le_bytes());
    header.extend(NEVER.to_le_bytes());
    header.extend(segments.to_le_bytes());
    header.extend((entries.len() as u64).to_le_bytes());
    header.extend(probe.to_le_bytes());
    let mut file = format::File::new(&header);
    file.records(1, &entries.iter().map(Entry::record).collect::<Vec<_>>());
    let of_words = |(segment, words): (usize, &Vec<u64>)| {
        let mut record = Vec::new();
        format::varint(&mut record, segment as u64);
        record.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        record
    };
    file.records(2, &words.iter().enumerate().map(of_words).collect::<Vec<_>>());
    file.records(3, &[Vec::new()]);
    file.end()
}

/// Entries come in the reverse order of their keys, as far as the policy makes nothing else of it.
#[test]
fn the_format_is_as_described() {
    let entries: Vec<_> = (0..5).map(Entry::new).collect();
    let policy = EvictionPolicy::lru();
    let cache = small(&policy, 1);
    let bytes = file(&policy, 1, 0, &entries, &[]);
    let report = cache.snapshot().types("t").codec(Raw).downtime(secs(0)).load_from(&bytes[..]).unwrap();
    assert_eq!((report.entries, report.left_out), (5, 0));
    let order: Vec<_> = cache.hottest(9).into_iter().map(|entry| entry.0).collect();
    assert_eq!(order, [0, 1, 2, 3, 4]);
}

fn number() -> impl Strategy<Value = u64> {
    let shifted = (any::<u64>(), 0..64_u32).prop_map(|(number, bits)| number >> bits);
    prop_oneof![
        Just(0),
        Just(1),
        Just(NEVER),
        Just(NEVER - 1),
        Just(NEVER >> 1),
        Just(1 << 63),
        0..20_u64,
        shifted
    ]
}

fn word() -> impl Strategy<Value = u64> {
    let share = (-1.5..1.5f64).prop_map(f64::to_bits);
    let queue_and_time = (0..3u64, 0..64u64).prop_map(|(queue, time)| queue << 32 | time);
    prop_oneof![number(), share, queue_and_time, Just(f64::NAN.to_bits())]
}

fn entry() -> impl Strategy<Value = Entry> {
    let optional = || prop::option::weighted(0.3, number());
    let life = (optional(), optional(), optional(), optional(), optional(), optional());
    let own = (optional(), any::<bool>(), any::<bool>());
    let tags = prop::option::weighted(0.3, prop::collection::vec(0..4_u64, 0..6));
    let policys = (word(), number(), any::<u8>());
    (0..24_u64, optional(), prop::bool::weighted(0.2), tags, own, life, policys).prop_map(
        |(key, weight, is_pinned, tags, own, (deadline, end, idle, reads, age, took), (note, turn, mark))| {
            Entry {
                weight,
                is_pinned,
                tags,
                deadline,
                end,
                idle,
                reads,
                age,
                ttl: own.0,
                took,
                has_own_weight: own.1,
                has_own_tags: own.2,
                note,
                turn,
                mark,
                ..Entry::new(key)
            }
        },
    )
}

struct Always(Option<Duration>);

impl Expiry<u64, String> for Always {
    fn after_create(&self, _: &u64, _: &String) -> Option<Duration> {
        self.0
    }
    fn after_read(&self, _: &u64, _: &String, _: Option<Duration>) -> Option<Duration> {
        self.0
    }
}

#[derive(Clone, Debug)]
struct Target {
    policy: EvictionPolicy,
    segments: usize,
    capacity: u64,
    max_entries: Option<u64>,
    ttl: Option<u64>,
    tti: Option<u64>,
    max_reads: Option<u64>,
    is_asked: bool,
    is_soft: bool,
    start: u64,
    is_in_use: bool,
}

fn target() -> impl Strategy<Value = Target> {
    let times = (prop::option::of(number()), prop::option::of(number()), prop::option::of(1..4_u64));
    let capacity = prop_oneof![4 => 0..30_u64, 1 => Just(NEVER), 1 => number()];
    (
        prop::sample::select(policies()),
        prop::sample::select(vec![1, 4]),
        (capacity, prop::option::weighted(0.2, 0..10_u64)),
        times,
        any::<[bool; 3]>(),
        prop_oneof![Just(1), Just((1 << 63) - 5), number().prop_map(|start| start >> 1)],
    )
        .prop_map(|(policy, segments, (capacity, max_entries), (ttl, tti, max_reads), flags, start)| {
            Target {
                policy,
                segments,
                capacity,
                max_entries,
                ttl,
                tti: tti.filter(|_| !flags[0]),
                max_reads,
                is_asked: flags[0],
                is_soft: flags[1],
                start,
                is_in_use: flags[2],
            }
        })
}

fn built(target: &Target) -> (Numbers, Clock) {
    let clock = Clock::manual_at(Duration::from_nanos(target.start));
    let mut builder = Cache::builder()
        .max_capacity(target.capacity)
        .segments(target.segments)
        .eviction_policy(target.policy.clone())
        .eviction_listener(|_, _, _| {})
        .clock(clock.clone());
    if let Some(entries) = target.max_entries {
        builder = builder.max_entries(entries);
    }
    if let Some(time) = target.ttl {
        builder = builder.time_to_live(Duration::from_nanos(time)).time_to_live_jitter(0.5);
    }
    if let Some(time) = target.tti {
        builder = builder.time_to_idle(Duration::from_nanos(time));
    }
    if let Some(reads) = target.max_reads {
        builder = builder.max_reads(reads);
    }
    if target.is_asked {
        builder = builder.expire_after(Always(target.ttl.map(Duration::from_nanos)));
    }
    if target.is_soft {
        builder = builder
            .refresh_after_write(secs(1))
            .stale_while_revalidate(secs(1))
            .stale_if_error(secs(9))
            .refresh_early(1.0);
    }
    (builder.build_with_hasher(seeds()).unwrap(), clock)
}

/// Uses a cache in all ways that a load may have upset.
fn busy(cache: &Numbers, clock: &Clock) {
    for round in 0..3 {
        for key in 0..30 {
            let _ = cache.get(&key);
            if key % 3 == 0 {
                cache.insert_with(
                    key,
                    "new".to_owned(),
                    InsertOptions::new().weight(key % 5).tags([key % 4]),
                );
            }
            if key % 7 == round {
                cache.unpin(&key);
            }
            if key % 11 == round {
                cache.get_or_load(key, |_| "loaded".to_owned());
            }
            assert!(cache.weighted_size() <= cache.capacity());
        }
        cache.validate();
        cache.invalidate_tag(round);
        clock.advance(Duration::from_nanos(1 << (20 * round)));
        cache.validate();
    }
    cache.set_capacity(5);
    cache.validate();
    assert!(cache.weighted_size() <= 5);
    cache.set_capacity(50);
    busy_again(cache);
    cache.invalidate_all();
    cache.validate();
    assert!(cache.is_empty());
}

fn busy_again(cache: &Numbers) {
    (0..60).for_each(|key| cache.insert(key, "again".to_owned()));
    cache.validate();
}

#[derive(Clone, Debug)]
struct Source {
    /// Whether the file names the policy that the cache has.
    is_same_policy: bool,
    is_same_hasher: bool,
    segments: u32,
    downtime: u64,
    words: Vec<Vec<u64>>,
}

fn source() -> impl Strategy<Value = Source> {
    let words = prop::collection::vec(prop::collection::vec(word(), 0..40), 0..5);
    (prop::bool::weighted(0.9), any::<bool>(), prop::sample::select(vec![0, 1, 4, u32::MAX]), number(), words)
        .prop_map(|(is_same_policy, is_same_hasher, segments, downtime, words)| Source {
            is_same_policy,
            is_same_hasher,
            segments,
            downtime,
            words,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(size(150, 2) as u32) })]

    /// Whatever a file says with right checksums: the bound holds, the books are right, and the cache works on.
    #[test]
    fn hostile_records_do_no_harm(
        target in target(),
        source in source(),
        entries in prop::collection::vec(entry(), 0..40),
    ) {
        let (cache, clock) = built(&target);
        if target.is_in_use {
            (0..10).for_each(|key| cache.insert(key, format!("mine {key}")));
        }
        let named = if source.is_same_policy { target.policy.clone() } else { EvictionPolicy::fifo() };
        let probe = if source.is_same_hasher { seeds().hash_one("larder") } else { 1 };
        let bytes = file(&named, source.segments, probe, &entries, &source.words);
        let before: Vec<_> = cache.iter().collect();
        let downtime = Duration::from_nanos(source.downtime);
        let report = cache.snapshot().types("t").codec(Raw).downtime(downtime).load_from(&bytes[..]).unwrap();
        cache.validate();
        prop_assert_eq!(report.entries + report.left_out, entries.len() as u64);
        prop_assert!(cache.weighted_size() <= target.capacity);
        if let Some(most) = target.max_entries {
            prop_assert!(cache.len() as u64 <= most);
        }
        for (key, value) in before {
            if let Some(now) = cache.peek(&key) {
                // Evicted for what came, it may have come back from the file.
                let theirs = format!("theirs {key}");
                prop_assert!(now == value || now == theirs);
            }
        }
        busy(&cache, &clock);
    }

    /// The same for bytes that make no sense within right checksums.
    #[test]
    fn hostile_blocks_do_no_harm(
        blocks in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..60)), 0..6),
        header in prop::option::of(prop::collection::vec(any::<u8>(), 0..60)),
    ) {
        let cache = in_use(&EvictionPolicy::default());
        let before = seen(&cache);
        let good = file(&EvictionPolicy::default(), 1, 0, &[], &[]);
        // The header's block is from byte 10 on.
        let len = u32::from_le_bytes(good[11..15].try_into().unwrap()) as usize;
        let own = good[15..15 + len].to_vec();
        let mut file = format::File::new(&header.unwrap_or(own));
        for (kind, payload) in &blocks {
            file.block(*kind, payload);
        }
        if cache.snapshot().types("t").codec(Raw).load_from(&file.end()[..]).is_err() {
            prop_assert_eq!(seen(&cache), before);
        }
        cache.validate();
    }
}

#[test]
fn more_pinned_than_fits_is_refused() {
    for policy in policies() {
        for segments in [1, 4] {
            let cache = small(&policy, segments);
            let pinned = |key| Entry { is_pinned: true, weight: Some(2), ..Entry::new(key) };
            let entries: Vec<_> = (0..30).map(pinned).chain((30..40).map(Entry::new)).collect();
            let bytes = file(&policy, 1, 0, &entries, &[]);
            let report = cache.snapshot().types("t").codec(Raw).load_from(&bytes[..]).unwrap();
            cache.validate();
            assert_eq!(report.entries + report.left_out, 40, "{policy}, {segments}");
            assert_eq!(cache.weighted_size(), 12, "{policy}, {segments}");
            cache.insert(99, "mine".to_owned());
            assert_eq!(cache.get(&99), None, "all is pinned");
            (0..30).for_each(|key| _ = cache.unpin(&key));
            cache.insert(99, "mine".to_owned());
            cache.validate();
        }
    }
}

/// Of two entries with the same key the hotter one is no better: one of them is in, and the books are right.
#[test]
fn keys_that_come_twice_are_in_once() {
    for policy in policies() {
        let cache = small(&policy, 1);
        let entries: Vec<_> =
            (0..10).map(|at| Entry { tags: Some(vec![7, 7, 7]), ..Entry::new(at % 2) }).collect();
        let bytes = file(&policy, 1, 0, &entries, &[]);
        let report = cache.snapshot().types("t").codec(Raw).load_from(&bytes[..]).unwrap();
        cache.validate();
        assert_eq!((report.entries, report.left_out), (2, 8));
        assert_eq!((cache.len(), cache.invalidate_tag(7)), (2, 2));
        cache.validate();
    }
}

/// As many tags as a file may name for an entry are no reason to hold the lock for minutes.
#[test]
fn many_tags_take_no_long_time() {
    let count = size(1 << 18, 1 << 6) as u64;
    let cache = small(&EvictionPolicy::lru(), 1);
    let entry = Entry { tags: Some((0..count).chain(0..count).collect()), ..Entry::new(1) };
    let bytes = file(&EvictionPolicy::lru(), 1, 0, &[entry], &[]);
    let started = std::time::Instant::now();
    let report = cache.snapshot().types("t").codec(Raw).load_from(&bytes[..]).unwrap();
    assert!(started.elapsed() < secs(60), "{:?}", started.elapsed());
    assert_eq!(report.entries, 1);
    cache.validate();
    assert_eq!(cache.invalidate_tag(count - 1), 1);
    cache.validate();
}

/// What cannot get in at all is no reason to leave out what can.
#[test]
fn an_entry_too_heavy_for_the_cache_keeps_no_other_out() {
    let entries: Vec<_> =
        (0..9).map(|key| Entry { weight: Some(if key == 0 { 13 } else { 1 }), ..Entry::new(key) }).collect();
    let bytes = file(&EvictionPolicy::lru(), 1, 0, &entries, &[]);
    let cache = small(&EvictionPolicy::lru(), 1);
    let report = cache.snapshot().types("t").codec(Raw).load_from(&bytes[..]).unwrap();
    assert_eq!((report.entries, report.left_out, cache.len()), (8, 1, 8));
    cache.validate();
}
