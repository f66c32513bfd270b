//! Loads made-up snapshots, and sees whether the cache bears it.

mod file;
mod heap;

use file::{File, put_varint};
use heap::Heap;
use larder::{Cache, Clock, EvictionPolicy, InsertOptions, Metadata};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

#[global_allocator]
static HEAP: Heap = Heap;

/// Bytes of memory that loading may take for each byte of the file. The shortest record of an entry has 8 with its length.
/// It becomes some 200 that wait until the file is whole, in a vector that doubles, and so is there twice then.
const FOR_EACH_BYTE: usize = 128;
/// And for any file: buffers, and the first chunks of each segment's tables.
const FOR_ANY: usize = 1 << 19;

const POLICIES: [&str; 7] = ["s3_lirs", "tiny_lfu", "s3_fifo", "sieve", "lru", "lfu", "fifo"];
const TYPES: &str = "fuzz";
const DAY: Duration = Duration::from_secs(86_400);

const ENTRY: u8 = 1;
const WORDS: u8 = 2;
const COMPLETE: u8 = 3;

/// Something of which there is one for each number.
trait Made: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    fn made(number: u64) -> Self;
}

impl Made for u64 {
    fn made(number: u64) -> Self {
        number
    }
}

impl Made for String {
    fn made(number: u64) -> Self {
        format!("user:{number}")
    }
}

/// Each kind of thing that has a length, or can be nested.
type Deep = (Option<Box<str>>, Vec<Vec<u16>>, BTreeMap<u8, Vec<()>>, std::result::Result<char, bool>);

impl Made for Deep {
    fn made(number: u64) -> Self {
        let lists = vec![vec![number as u16; number as usize % 3]; number as usize % 4];
        let map = (0..number as u8 % 4).map(|key| (key, vec![(); key.into()])).collect();
        (Some("tea".into()), lists, map, if number % 2 == 0 { Ok('t') } else { Err(true) })
    }
}

/// What a cache is like.
struct Options {
    policy: EvictionPolicy,
    capacity: u64,
    segments: usize,
    switches: u8,
}

impl Options {
    fn read(input: &mut Unstructured<'_>) -> Result<Self> {
        Ok(Self {
            policy: input.choose(&POLICIES)?.parse().expect("one of larder's"),
            capacity: *input.choose(&[0, 1, 40, 1_000, u64::MAX])?,
            segments: *input.choose(&[1, 2, 8])?,
            switches: input.arbitrary()?,
        })
    }

    fn has(&self, switch: u8) -> bool {
        self.switches & 1 << switch != 0
    }

    fn build<K: Made + Hash + Eq, V: Made>(&self, clock: &Clock) -> Cache<K, V> {
        let mut builder = Cache::builder()
            .max_capacity(self.capacity)
            .segments(self.segments)
            .eviction_policy(self.policy.clone())
            .clock(clock.clone());
        if self.has(0) {
            builder = builder.time_to_live(DAY);
        }
        if self.has(1) {
            builder = builder.time_to_idle(DAY / 2);
        }
        if self.has(2) {
            builder = builder.max_reads(3);
        }
        if self.has(3) {
            builder = builder.record_ages();
        }
        if self.has(4) {
            builder = builder.refresh_after_write(DAY / 4).refresh_early(1.0);
        }
        if self.has(5) {
            builder = builder.weigher(|_, _| 2);
        }
        if self.has(6) {
            builder = builder.tags(|_, _| ["all"]);
        }
        builder.build().expect("good options")
    }

    /// With some entries, and a past that its policy remembers.
    fn filled<K: Made + Hash + Eq, V: Made>(&self, clock: &Clock) -> Cache<K, V> {
        let cache = self.build(clock);
        for number in 0..60 {
            let options = match number % 10 {
                1 => InsertOptions::new().pinned(true),
                2 => InsertOptions::new().tags(["a", "b"]),
                3 => InsertOptions::new().ttl(DAY / 3),
                4 => InsertOptions::new().weight(3),
                _ => InsertOptions::new(),
            };
            cache.insert_with(K::made(number), V::made(number), options);
            clock.advance(Duration::from_secs(1));
            cache.get(&K::made(number / 2));
        }
        cache
    }
}

/// One input: a cache, a file, and what is done with them.
pub fn load(data: &[u8]) {
    // Too short an input is no input.
    let _ = try_load(data);
}

fn try_load(data: &[u8]) -> Result<()> {
    let mut input = Unstructured::new(data);
    match input.arbitrary::<u8>()? % 3 {
        0 => one::<u64, u64>(&mut input),
        1 => one::<String, Deep>(&mut input),
        _ => one::<u64, Deep>(&mut input),
    }
}

fn one<K: Made + Hash + Eq + Ord, V: Made>(input: &mut Unstructured<'_>) -> Result<()> {
    let options = Options::read(input)?;
    let clock = Clock::manual();
    let cache: Cache<K, V> = if input.arbitrary()? { options.filled(&clock) } else { options.build(&clock) };
    let mut snapshot = cache.snapshot().types(TYPES);
    if input.ratio(1, 4)? {
        snapshot = snapshot.downtime(Duration::from_secs(input.arbitrary()?));
    }
    let most = if input.ratio(1, 8)? { input.arbitrary::<u16>()?.into() } else { u64::MAX };
    snapshot = snapshot.max_bytes(most);
    let bytes = made_up::<K, V>(input)?;

    let before = content(&cache);
    let (result, peak) = Heap::peak_of(|| snapshot.load_from(&bytes[..]));
    let allowed = FOR_EACH_BYTE * bytes.len() + FOR_ANY;
    assert!(peak <= allowed, "{peak} bytes of memory for {} bytes, {allowed} at most", bytes.len());
    cache.validate();
    match result {
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert_eq!(content(&cache), before, "as it was: {error}");
        }
        Ok(report) => {
            assert_eq!(report.bytes, bytes.len() as u64);
            assert!(report.bytes <= most, "{} bytes are read", report.bytes);
            go_on(&options, &cache, &clock);
        }
    }
    Ok(())
}

/// The cache can be used, and saved in its turn.
fn go_on<K: Made + Hash + Eq, V: Made>(options: &Options, cache: &Cache<K, V>, clock: &Clock) {
    for number in 0..90 {
        let key = K::made(number);
        if cache.get(&key).is_none() {
            cache.insert(key, V::made(number));
        }
    }
    cache.invalidate_tag("a");
    cache.validate();
    let mut bytes = Vec::new();
    let saved = cache.snapshot().types(TYPES).save_to(&mut bytes).expect("memory takes all");
    let again: Cache<K, V> = options.build(clock);
    let loaded = again.snapshot().types(TYPES).load_from(&bytes[..]).expect("it was just saved");
    assert_eq!(loaded.entries + loaded.left_out, saved.entries);
    again.validate();
    clock.advance(2 * DAY);
    cache.run_pending_tasks();
    cache.validate();
}

/// All that can be seen of a cache.
type Content<K, V> = (Vec<(K, V)>, Vec<(K, Option<Metadata>)>, usize, u64);

fn content<K: Made + Hash + Eq + Ord, V: Made>(cache: &Cache<K, V>) -> Content<K, V> {
    let by_heat = cache.hottest(cache.len());
    let mut known: Vec<_> = cache.iter().map(|(key, _)| (key.clone(), cache.metadata(&key))).collect();
    known.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    (by_heat, known, cache.len(), cache.weighted_size())
}

/// Any bytes, or a snapshot that was changed.
fn made_up<K: Made + Hash + Eq, V: Made>(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    if input.ratio(1, 8)? {
        return Ok(input.bytes(input.len())?.to_vec());
    }
    let options = Options::read(input)?;
    let cache: Cache<K, V> = options.filled(&Clock::manual());
    let mut bytes = Vec::new();
    cache.snapshot().types(TYPES).save_to(&mut bytes).expect("memory takes all");
    if input.ratio(1, 8)? {
        // Without right checksums.
        while !input.is_empty() {
            let at = input.choose_index(bytes.len())?;
            bytes[at] = input.arbitrary()?;
            if input.ratio(1, 16)? {
                bytes.truncate(at + 1);
            }
        }
        return Ok(bytes);
    }
    let mut file = File::parse(&bytes);
    assert!(file.to_bytes() == bytes || file.records.len() > 1_000, "the format is as it is described");
    while !input.is_empty() && file.records.len() < 10_000 {
        change::<K, V>(&mut file, input)?;
    }
    Ok(file.to_bytes())
}

/// Changes something about a file.
fn change<K: Made, V: Made>(file: &mut File, input: &mut Unstructured<'_>) -> Result<()> {
    let change: u8 = input.arbitrary()?;
    match change % 20 {
        0 => file.in_block = input.arbitrary::<u8>()?.into(),
        1 => {
            let at = input.choose_index(file.header.len())?;
            file.header[at] = input.arbitrary()?;
        }
        // A number in the header: capacity, time to live, segments, entries, the hasher's probe.
        2 => {
            let number: u64 = unusual(input)?;
            let (back, len) = *input.choose(&[(36, 8), (28, 8), (20, 4), (16, 8), (8, 8)])?;
            let at = file.header.len().saturating_sub(back);
            for (byte, new) in file.header[at..].iter_mut().zip(&number.to_le_bytes()[..len]) {
                *byte = *new;
            }
        }
        3 => file.miscounted = unusual(input)?,
        4 => file.behind.push(input.arbitrary()?),
        5 => {
            let at = input.choose_index(file.preamble.len())?;
            file.preamble[at] = input.arbitrary()?;
        }
        6..12 => {
            let record = made_up_record::<K, V>(input)?;
            let at = input.int_in_range(0..=file.records.len())?;
            file.records.insert(at, record);
        }
        _ if file.records.is_empty() => {}
        change => {
            let at = input.choose_index(file.records.len())?;
            let len = file.records[at].1.len();
            match change {
                12 => drop(file.records.remove(at)),
                13 => {
                    let other = input.choose_index(file.records.len())?;
                    file.records.swap(at, other);
                }
                14 => {
                    let times = input.int_in_range(1..=2_000)?;
                    let record = file.records[at].clone();
                    file.records.splice(at..at, std::iter::repeat_n(record, times));
                }
                15 => file.records[at].0 = input.int_in_range(0..=6)?,
                16 => file.records[at].1.truncate(input.int_in_range(0..=len)?),
                17 => file.records[at].1.insert(input.int_in_range(0..=len)?, input.arbitrary()?),
                _ if len > 0 => file.records[at].1[input.choose_index(len)?] = input.arbitrary()?,
                _ => {}
            }
        }
    }
    Ok(())
}

/// A number as nobody expects it.
fn unusual(input: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match input.arbitrary::<u8>()? % 8 {
        0 => 0,
        1 => 1,
        2 => u64::MAX,
        3 => u64::MAX - 1,
        4 => 1 << input.int_in_range(0..=63)?,
        5 => input.arbitrary()?,
        _ => input.arbitrary::<u8>()?.into(),
    })
}

fn made_up_record<K: Made, V: Made>(input: &mut Unstructured<'_>) -> Result<(u8, Vec<u8>)> {
    let mut record = Vec::new();
    let kind = input.arbitrary::<u8>()?;
    match kind % 4 {
        0 => {
            let len = input.int_in_range(0..=40)?;
            let bytes = input.bytes(len)?;
            return Ok((if kind < 128 { ENTRY } else { WORDS }, bytes.to_vec()));
        }
        // An entry: flags, the numbers that these announce, and what each has.
        1 | 2 => {
            const TAGS: u8 = 1 << 2;
            let flags: u8 = input.arbitrary()?;
            record.push(flags);
            let mut tags = 0;
            for flag in [1, TAGS, 1 << 3, 1 << 4, 1 << 5, 1 << 6, 1 << 7] {
                if flags & flag != 0 {
                    let number = if flag == TAGS { input.int_in_range(0..=3)? } else { unusual(input)? };
                    if flag == TAGS {
                        tags = number;
                    }
                    put_varint(&mut record, number);
                }
            }
            for _ in 0..3 {
                put_varint(&mut record, unusual(input)?);
            }
            record.push(input.arbitrary()?);
            for _ in 0..tags {
                record.extend(unusual(input)?.to_le_bytes());
            }
            let mut key = Vec::new();
            let number = input.arbitrary::<u8>()?.into();
            larder::Codec::encode(&larder::Bincode, &K::made(number), &mut key).expect("it has bytes");
            put_varint(&mut record, key.len() as u64);
            record.extend(key);
            if input.ratio(1, 4)? {
                let len = input.int_in_range(0..=40)?;
                record.extend(input.bytes(len)?);
            } else {
                larder::Codec::encode(&larder::Bincode, &V::made(number), &mut record).expect("it has bytes");
            }
            Ok((ENTRY, record))
        }
        // Words of a policy.
        _ => {
            if input.ratio(1, 8)? {
                return Ok((COMPLETE, record));
            }
            put_varint(&mut record, input.int_in_range(0..=9)?);
            for _ in 0..input.int_in_range(0..=60)? {
                record.extend(unusual(input)?.to_le_bytes());
            }
            Ok((WORDS, record))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For those who have no fuzzer: without its guidance it finds less.
    #[test]
    fn random_inputs() {
        let mut state = 1_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..20_000 {
            let len = next() % 300;
            let data: Vec<u8> = (0..len).map(|_| (next() >> 32) as u8).collect();
            load(&data);
        }
    }
}
