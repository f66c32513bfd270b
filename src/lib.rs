//! An in-process cache: a bounded map that many threads share, and that evicts the entries least worth keeping.
//!
//! 1. [First steps](#first-steps)
//! 2. [Loading](#loading)
//! 3. [Time](#time)
//! 4. [Snapshots](#snapshots)
//! 5. [Guarantees](#guarantees)
//! 6. [Panics](#panics)
//! 7. [Costs](#costs)
//! 8. [Memory](#memory)
//! 9. [Hashing](#hashing)
//! 10. [What it does not do](#what-it-does-not-do)
//! 11. [Features, targets, Rust version](#features-targets-rust-version)
//!
//! Beside this reference: [from moka](guide::from_moka), and [how larder is built](guide::architecture).
//!
//! # First steps
//!
//! ```
//! use larder::{Cache, EvictionPolicy};
//! use std::sync::Arc;
//!
//! // At most 10,000 entries. `Cache::new(10_000)` does the same with the default policy.
//! let profiles: Cache<u64, Arc<str>> =
//!     Cache::builder().max_capacity(10_000).eviction_policy(EvictionPolicy::s3_fifo()).build()?;
//!
//! // A cache is a handle: its clones are the same cache.
//! let handle = profiles.clone();
//! std::thread::spawn(move || handle.insert(7, Arc::from("likes tea"))).join().unwrap();
//!
//! assert_eq!(profiles.get(&7).as_deref(), Some("likes tea"));
//! assert_eq!(profiles.with(&7, |text| text.len()), Some(9));
//! assert_eq!(profiles.get(&8), None);
//! # Ok::<(), larder::BuildError>(())
//! ```
//!
//! [`Cache`] has all operations and [`Builder`] all options. [`EvictionPolicy`] says which entries go first; the module
//! [`policy`] is for writing another one. The README has a table of which policy to take when.
//!
//! # Loading
//!
//! [`get_or_load`](Cache::get_or_load) gives a value that is missing to whoever wants it, and calls the loader once,
//! however many want it at the same time, threads and tasks alike.
//!
//! ```
//! use larder::Cache;
//! use std::sync::Arc;
//!
//! let ranked: Cache<(u32, u8), Arc<[u32]>> = Cache::builder()
//!     .max_capacity(10_000)
//!     .tags(|&(user, _), _| [format!("user:{user}")])
//!     .build()?;
//! let rank = |&(user, shelf): &(u32, u8)| Arc::from([user, u32::from(shelf)]); // expensive
//!
//! assert_eq!(*ranked.get_or_load((7, 1), rank), [7, 1]);
//! assert_eq!(*ranked.get_or_load((7, 1), |_| unreachable!("it is there")), [7, 1]);
//! // The user has acted: all that was ranked for them is out of date, and what is being ranked right now is not kept.
//! ranked.invalidate_tag("user:7");
//! assert_eq!(ranked.get(&(7, 1)), None);
//! # Ok::<(), larder::BuildError>(())
//! ```
//!
//! | | |
//! | --- | --- |
//! | one key | [`get_or_load`](Cache::get_or_load), [`try_get_or_load`](Cache::try_get_or_load), with `_async` for tasks |
//! | many keys, one call of the loader | [`get_all_or_load`](Cache::get_all_or_load), [`try_get_all_or_load`](Cache::try_get_all_or_load), with `_async` |
//! | many keys before anybody asks for them | [`warm`](Cache::warm), [`try_warm`](Cache::try_warm), with `_async` |
//! | anew, while readers keep the value before | [`refresh`](Cache::refresh), [`try_refresh`](Cache::try_refresh), with `_async` |
//!
//! What becomes of a load, its *flight*:
//!
//! | if | its caller gets | those who wait get | the cache keeps |
//! | --- | --- | --- | --- |
//! | the loader returns | the value | the value | the value, if it may be admitted and its life is not zero |
//! | the key is written or made invalid meanwhile | the value | the value; who comes later starts a new flight | not the value |
//! | the loader gives an error | the error, or an old value that is [still good](#time) | the same, if they expect an error of its type; else one of them loads | nothing new |
//! | the loader panics | the panic | one of them loads | nothing new |
//! | the future that leads is dropped | | one of them loads | nothing new |
//! | it takes longer than [`load_timeout`](Builder::load_timeout) | the value, when it comes | one of them loads | not the value |
//! | it asks for its own key, or for one whose loader waits for it | [`LoadError::Recursive`], or a panic where there is no `Result` | | |
//!
//! No lock is held while a loader runs, and no executor is needed. A future that leads a flight and is neither polled nor
//! dropped keeps others waiting for ever, unless there is a `load_timeout`. So do *tasks* whose loaders want each other's
//! keys; threads that would wait for each other, or loaders within one thread or task, are told.
//!
//! # Time
//!
//! An entry has one deadline: the earliest of what these say. One whose deadline has passed is *over*.
//!
//! | | from | moved by reads |
//! | --- | --- | --- |
//! | [`time_to_live`](Builder::time_to_live), [`InsertOptions::ttl`] | its last write | no |
//! | [`time_to_idle`](Builder::time_to_idle), [`InsertOptions::tti`] | its last write or read | yes |
//! | [`expire_after`](Builder::expire_after) | as the [`Expiry`] says | as it says |
//! | [`negative_time_to_live`](Builder::negative_time_to_live) | its last write, in place of `time_to_live` where the value is `None` | no |
//!
//! [`max_reads`](Builder::max_reads) ends an entry by number instead.
//! [`time_to_live_jitter`](Builder::time_to_live_jitter) keeps entries that were written together from ending together.
//!
//! No read sees an expired entry, whether it was removed yet or not; only the methods that count entries without looking at
//! them do: `len`, `is_empty` and `weighted_size`. It is removed, as [`Expired`](RemovalCause::Expired), by the next write or
//! invalidation of its key, or by one of the next writes to its segment, each of which looks at a few such entries; reads remove nothing, but for the [two kinds](#guarantees) that take a lock.
//! [`run_pending_tasks`](Cache::run_pending_tasks) removes all that ended 2^20 nanoseconds ago (1.05 ms) or earlier, since ends are
//! kept in ticks of that length, and [`housekeeping`](Builder::housekeeping) calls that every now and then. An entry that can
//! still be served, as in the table below, stays until it cannot, or is written, removed or evicted.
//!
//! To every operation an expired entry is as if it were not there: `compute` is given `None`, `remove` finds nothing,
//! `invalidate_tag` does not count it, and `get_or_load` loads. An end is no invalidation: a load that is under way for the
//! key goes on.
//!
//! Who brings a loader can be served better than that: the value is loaded before it is needed, by one caller or elsewhere,
//! while all others get the one that is there.
//!
//! | age of the entry | with a loader (`get_or_load` and its like) | without (`get`, `iter`, `compute`, ..) |
//! | --- | --- | --- |
//! | below [`refresh_after_write`](Builder::refresh_after_write) | the value | the value |
//! | from then on it is *due* | the value; one caller loads it anew, or has that done: [`refresh_with`](Builder::refresh_with) | the value |
//! | over, up to [`stale_while_revalidate`](Builder::stale_while_revalidate) | the same: it is *stale* | nothing |
//! | over, up to [`stale_if_error`](Builder::stale_if_error) | a new value; the old one if that fails | nothing |
//! | over for longer than both | a new value | nothing |
//!
//! A refresh that fails is tried again after a [wait](Builder::refresh_backoff) that grows with each failure; one that panics or
//! is given up, by whoever comes next. To write a key or to make it invalid ends what is there of it, stale or not. [`refresh_early`](Builder::refresh_early) spreads the refreshes
//! of many processes. [`Cache::metadata`] tells how old an entry is.
//!
//! A cache of which nothing was said of time reads no clock and keeps nothing for it, until an entry comes with a life of
//! its own. For how exact clocks are see [`Clock`].
//!
//! # Snapshots
//!
//! With the feature `serde`, [`Cache::snapshot`] saves a cache and loads it again, so that a service that is started anew
//! need not begin with an empty one: the entries, what is left of their lives, their weights, tags and pins, and what the
//! eviction policy has learnt. A file takes the place of the one before as a whole or not at all; `Snapshot::max_bytes`
//! limits its bytes, which by default nothing does. Bytes that are not a whole snapshot of the same types are an error,
//! and leave the cache as it was. A snapshot has what was there when it was saved: what was made invalid since then comes
//! back with it, unless its life is over. Without a snapshot, [`warm`](Cache::warm) loads what will be asked for.
//!
//! # Guarantees
//!
//! 1. **Reads see what is there.** [`get`](Cache::get) never gives an entry that was over by the cache's [`Clock`], or
//!    whose removal, invalidation or replacement had returned, before `get` began, and it finds a key that is there
//!    throughout the call, whatever writers do meanwhile. Keys are compared, not only their hashes. Inserting a new value
//!    for a key is no gap, unless the entry had to be evicted itself to make room for its heavier successor.
//! 2. **Operations on one key are linearizable**, and [`compute`](Cache::compute) and [`entry`](Cache::entry) are
//!    atomic for their key. Nothing is promised across keys. The closures of `compute`, [`Entry::and_upsert_with`] and
//!    [`remove_if`](Cache::remove_if) may run more than once, when other threads are faster; only the last answer
//!    counts.
//! 3. **The bound holds at every moment,** and nothing is evicted while the whole cache has room, but for a thousandth of it at
//!    most. Room is made before an entry gets in, so the weight of the entries, which is
//!    their number where nothing else was said, never exceeds the capacity, whatever threads do; nor does their number
//!    exceed [`max_entries`](Builder::max_entries). Once [`set_capacity`](Cache::set_capacity) has returned this is so
//!    for the new capacity. Sums of weights cannot overflow. An entry as heavy as the whole capacity gets in, however
//!    many segments there are, unless pinned entries are in its way; a heavier one is refused as
//!    [`Rejected`](RemovalCause::Rejected), and its key is absent afterwards. A capacity of 0 is legal: such a cache
//!    keeps nothing. What was removed and still waits for its readers does not count; see [Memory](#memory).
//!    [`len`](Cache::len) and [`weighted_size`](Cache::weighted_size) ask one segment after another, so they are exact
//!    while nobody writes.
//! 4. **Hits take no lock** and wait for nobody. A hit writes to a record of its own thread and, with most policies, to a
//!    counter in the entry until that is full. With `lru` and `lfu` it writes to a small buffer instead; who finds the
//!    buffer full passes its content to the policy if the segment's lock happens to be free, and goes on without if not.
//!    Statistics add to a counter of the thread's own; threads beyond four for each core share one. Two kinds of reads
//!    take the segment's lock: the last one that [`max_reads`](Builder::max_reads) allows, and one after which an
//!    [`Expiry`] lets the entry end earlier.
//! 5. **No code of yours runs under a lock**, with two exceptions: the `Eq` of keys, while a write looks for its key,
//!    and a [`Policy`](policy::Policy) of your own. So weighers, listeners, closures, `Clone` and `Drop` may use the
//!    same cache.
//! 6. **One notification for each removal**, with its [cause](RemovalCause), after the entry is out of sight; of each key in
//!    the order in which its values left. A refused entry is notified once, too. Dropping the cache notifies nobody. Which
//!    thread notifies: see [`eviction_listener`](Builder::eviction_listener).
//! 7. **Iterators are weakly consistent.** An entry that is there all the while comes exactly once, no key comes twice,
//!    nothing comes that was removed before the iterator was made, and iterators end, whatever others insert. They
//!    block writers of a segment for a few entries at a time.
//! 8. **Destruction is deferred but bounded.** See [Memory](#memory).
//! 9. **A load cannot undo an invalidation.** `insert`, `remove`, `invalidate`, `remove_if`, `compute`, `invalidate_all`,
//!    `retain`, `drain` and [`invalidate_tag`](Cache::invalidate_tag) take effect on a key at one moment between call and
//!    return. From then on no read of it gives a value whose load began before, also if there was no entry to remove. What
//!    walks over all entries takes effect on a few keys at a time, and what `drain` has not come to yet is not invalid.
//!    `remove_if` and `retain` do so whatever their closure says. `retain` makes the loads of a key void before it calls its
//!    closure, and removes the entry after that, so on a key whose entry it removes it takes effect at two moments. To
//!    `invalidate_tag` a load matters whose value carries the tag, or whose key has an entry that does. An eviction is no
//!    invalidation, nor is an end, nor a `compute` that ends with [`Op::Keep`].
//! 10. **One loader a key.** Of several callers who miss a key one runs its loader, and who comes after its value is
//!     there runs none. More than one runs only where the key was written or made invalid during the first, where the
//!     flight came to nothing for those who waited, as in the table of [Loading](#loading), or where the cache did not
//!     keep the value.
//! 11. **A loader cannot poison its key.** One that fails, panics, is cancelled or, with a
//!     [`load_timeout`](Builder::load_timeout), hangs, leaves nothing behind: no error is cached, and who comes next loads.
//! 12. **Panics of yours do no harm.** They may lose entries, but never memory safety, and wedge nothing: see
//!     [Panics](#panics).
//! 13. **Numbers do not overflow.** Any `Duration` may be given, zero and [`Duration::MAX`](std::time::Duration::MAX)
//!     included, any `u64` as weight or capacity. An end that is too late to be told is none; sums of weights end at
//!     `u64::MAX`.
//! 14. **A snapshot is not trusted.** Bytes that are no snapshot are an error: no panic, no abort, no memory beyond a
//!     small multiple of [what was read](#snapshots). This goes for the codec that comes along, as far as your types' own
//!     `Deserialize` does likewise. Checksums do not tell who has written a snapshot: one that is forged with care loads.
//!     (With `serde`.)
//! 15. **Clocks do not run backwards.** A write goes by the time at which it got its segment's lock: to others an entry may end
//!    before a write has replaced it that has still found it good. The time of day plays no part, so that to change it ends nothing early or late;
//!     but for how long a snapshot has lain, unless `Snapshot::downtime` tells. What a machine's suspension does says
//!     [`Clock`].
//!
//! # Panics
//!
//! A panic in `Hash`, `Eq`, `Clone`, a weigher, a loader, a closure, a hook, a listener or a policy of your own reaches the caller of the
//! operation in which it happened, leaves no lock locked, and the cache stays usable and within its bound. A panicking
//! weigher leaves it as it was. A panic of the listener goes on when everything else that belongs to the operation has
//! been done, other notifications included; of several the first goes on. The operation is the one in whose thread the
//! listener ran: see [`eviction_listener`](Builder::eviction_listener).
//!
//! So [`Cache`] is [`UnwindSafe`](std::panic::UnwindSafe), whatever its keys and values are: closures for `catch_unwind` may
//! use one.
//!
//! A panic in the `Drop` of a removed key or value goes no further than the panic hook, since the thread that happens
//! to drop it has often nothing to do with it. (With `panic = "abort"` every panic ends the process, as always.)
//!
//! The crate itself panics where a segment would come to hold 2^29 entries, those included that wait for their readers;
//! a cache as large as that takes more [segments](Builder::segments).
//!
//! # Costs
//!
//! | operation | time |
//! | --- | --- |
//! | `get`, `with`, `peek`, `contains_key` | O(1) on average, without a lock, plus the clone |
//! | `insert`, `remove`, `compute`, `pin` and their like | O(1) amortised under the lock of one segment, and for each entry that is evicted; `sieve` may pass over many entries for one eviction |
//! | `get_or_load` and its like, on a hit | as `get`, and where entries may be due a look at the time |
//! | the same on a miss | as two inserts and two clones of the key, beside the loader |
//! | `get_all_or_load`, or a batch of `warm`, if a key is missing | as `get_or_load` for each key; each segment's lock twice |
//! | `metadata` | O(1); the segment's lock for a moment |
//! | `invalidate_tag` | O(segments), and for each entry that carries the tag |
//! | an insert of more than a segment's share of the capacity | locks segment after segment to gather the room |
//! | any write, where entries end | O(1) for each of up to 16 entries of the segment that are over, or may be |
//! | `len`, `weighted_size`, `stats` | O(segments); each segment's lock for a moment |
//! | `run_pending_tasks` | O(segments), and for each entry that is over; a segment's lock for up to 256 of them at a time |
//! | `iter`, `keys`, `for_each`, `retain`, `drain`, `invalidate_all` | O(entries); a segment's lock for a few entries at a time |
//! | `hottest(n)`, `coldest(n)` | O(entries) under each segment's lock, O(n) with `lru`, `lfu` and `fifo`; and a lock for a moment for each entry |
//! | `set_capacity` | O(segments), and for each entry that is evicted |
//! | to save a snapshot | O(entries); each segment's lock once for the order of all its entries, some nanoseconds for each, then for some thirty at a time |
//!
//! The capacity is divided among segments, each with a lock for its writers and a policy of its own. A small cache has
//! one. Where the index of a segment has to grow each insert moves a few entries, so that none has to move them all.
//! But what a policy, and a cache with a weigher, keep for each entry stands in arrays, some 8 to 20 bytes an entry.
//! Where the number of entries is not bounded, or a segment has more than fit into 16 MiB, the insert that doubles a
//! segment's entries copies them under its lock: O(entries of the segment), in the order of 10 ms for each million of
//! entries, most of it for fresh pages. More segments make that shorter, and a bound on the number avoids it.
//!
//! # Memory
//!
//! - Keys and values stand inline, in cells that never move; an insert allocates nothing for itself once the cache is
//!   full. Large values are better boxed: a cell is as large as the largest value.
//! - A removed entry waits until no reader looks at it. Then its key and value are dropped, and its memory is used for another
//!   one. A reader keeps the entry that it looks at, for instance in a closure given to [`with`](Cache::with), and no
//!   other one; `for_each`, `retain` and the steps of an iterator keep the ten or so that they have taken from the index.
//! - What waits is bounded whatever the scheduler does, also with many more threads than cores: 6 batches for each segment,
//!   and for each thread an entry that it looks at and up to 16 that it is dropping. A batch is a 128th of the entries that the
//!   segment is made for, at least 16 and at most 128; a 16th of them, and at least 1, where they are less than 256; and 32 where
//!   their number is not bounded. Where many threads use caches a batch has one entry for each eight of them, up to a 32nd of
//!   the entries.
//!   No more than a 16th of the segment's share of the capacity by weight waits in a batch, but for a single heavier entry.
//! - On Linux the kernel helps to find out which readers are left (`membarrier`). If a sandbox forbids that call after a
//!   cache has been used, the memory of removed entries is never used again; if it does so before, reads cost more.
//! - A thread that is killed in the middle of a read, as by `exit` in a closure given to `with`, or a `fork` in one, keeps one entry.
//! - This is work of the threads that use the cache; there are no others, but for
//!   [`housekeeping`](Builder::housekeeping), and one that wakes tasks at a [`load_timeout`](Builder::load_timeout). A
//!   cache that nobody writes to keeps what it removed last until [`run_pending_tasks`](Cache::run_pending_tasks) is
//!   called or its last handle is dropped, which drops all keys and values.
//! - An entry takes 16 bytes more where entries end, for its deadline and its place in a timing wheel; and 8 bytes more for
//!   each of these, from when the first entry needs it: an end that reads must not move, a time to idle other than the
//!   builder's, a time to live that options gave, a number of reads, when it was written, how long it took to load, who refreshes
//!   it.
//! - Where the number of entries is bounded, cells and index for all of them, up to 16 MiB each for a segment, are
//!   asked of the allocator as zeroed blocks when the cache is built. For such blocks operating systems reserve addresses,
//!   and give memory when it is written to. All else grows with the number of entries. What a segment needed beyond these
//!   blocks for a while is given back by `run_pending_tasks` as far as it is free. Nothing else shrinks before the cache is
//!   dropped, not even by `set_capacity` or `invalidate_all`.
//! - Each thread that uses caches has a small record. It is never freed, but goes on to the next thread when its own
//!   ends.
//!
//! # Hashing
//!
//! The default hasher is [`RandomState`], with a seed of its own for each cache, so that who chooses the keys does not
//! know which of them collide, unless they learn it from how long operations take. AES makes that harder, where a program is
//! compiled for processors that have it ([`RandomState`] says how); [`std::hash::RandomState`] is for where it is to be
//! feared. Any `BuildHasher` can take its place: [`Builder::build_with_hasher`]. It need not spread its bits well, since
//! larder mixes what it gives, but keys with the same 64 bits stand in each other's way: lookups among them take O(their
//! number). With a hasher that is not seeded, or weak on purpose, somebody from outside may bring this about.
//!
//! A key is looked up by any type that is [`Equivalent`] to it and hashes alike: a `String` by `&str`. `Hash` and `Eq`
//! that contradict each other, or change while the key is in the cache, lose entries but harm nothing else.
//!
//! # What it does not do
//!
//! Not yet: a second tier such as Redis; a cache is of one process, and does not hear of changes that others make to what it
//! holds.
//!
//! `entry(key).or_insert_with(..)` is no load: it runs its closure in each thread that finds the key missing, and keeps
//! one of the values.
//!
//! Not supported: the use of a cache in a child process that `fork` made after it. Locks may be held in the child by
//! threads that it does not have. (`fork` followed by `exec` is fine.)
//!
//! # Features, targets, Rust version
//!
//! - `serde`: [`EvictionPolicy`] is serialized as its name, and read from it; and [snapshots](#snapshots). It brings `serde`,
//!   `bincode` and `crc32fast`. `bincode` 2.0.1 is no longer maintained (RUSTSEC-2025-0141), of which `cargo audit` warns. It
//!   encodes, and decodes numbers; the rest of the decoder is larder's own, which takes no length on trust.
//!
//! There are no default features. The crate needs Rust 1.89 or newer, and a target with the standard library, threads and
//! 64-bit atomics. It is tested on 64-bit Linux; no WebAssembly.
//!

// Links to what is there with a feature only.
#![cfg_attr(feature = "serde", doc = "[`Cache::snapshot`]: Cache::snapshot")]
#![cfg_attr(not(feature = "serde"), doc = "[`Cache::snapshot`]: #features-targets-rust-version")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod cache;
mod clock;
mod compute;
mod error;
mod expiry;
mod hash;
mod inner;
mod iter;
mod load;
mod metadata;
mod options;
mod parts;
pub mod policy;
mod refresh;
mod removal;
mod segment;
#[cfg(feature = "serde")]
mod snapshot;
mod stats;
mod sync;
mod table;
mod tag;
mod weak;

/// Pages beside the reference.
#[cfg(any(doc, doctest))]
pub mod guide {
    #[doc = include_str!("guide/from_moka.md")]
    pub mod from_moka {}
    #[doc = include_str!("guide/architecture.md")]
    pub mod architecture {}
}

pub use builder::Builder;
pub use cache::Cache;
pub use clock::Clock;
pub use compute::{Computed, Entry, Op};
pub use equivalent::Equivalent;
#[cfg(feature = "serde")]
#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
pub use error::SnapshotError;
pub use error::{BuildError, LoadError, ParsePolicyError};
pub use expiry::Expiry;
pub use hash::{KeyHasher, RandomState};
pub use iter::{Drain, Iter, Keys};
pub use load::{WarmError, WarmProgress, WarmUp};
pub use metadata::Metadata;
pub use options::InsertOptions;
pub use policy::EvictionPolicy;
pub use refresh::Refresh;
pub use removal::RemovalCause;
#[cfg(feature = "serde")]
#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
pub use snapshot::{Bincode, Codec, Snapshot, SnapshotReport};
pub use stats::Stats;
pub use tag::Tag;
pub use weak::WeakCache;

/// The example in the README is tested with those of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;

/// Code that must not compile: values that cannot be shared among threads, and references that outlive their look-up.
///
/// ```compile_fail,E0277
/// larder::Cache::<u64, std::rc::Rc<u8>>::new(1);
/// ```
/// ```compile_fail,E0277
/// larder::Cache::<u64, std::cell::Cell<u8>>::new(1);
/// ```
/// ```compile_fail,E0277
/// larder::Cache::<std::rc::Rc<u8>, u64>::new(1);
/// ```
/// ```compile_fail,E0597
/// let text = String::from("short-lived");
/// larder::Cache::<&'static str, u64>::new(1).insert(&text, 1);
/// ```
/// ```compile_fail
/// fn shorter<'a>(cache: larder::Cache<&'static str, u64>) -> larder::Cache<&'a str, u64> {
///     cache
/// }
/// ```
/// ```compile_fail
/// let cache = larder::Cache::<u64, String>::new(1);
/// let outlives: Option<&String> = cache.with(&1, |value| value);
/// ```
/// ```compile_fail,E0521
/// let cache = larder::Cache::<u64, String>::new(1);
/// let mut outlives: Vec<&String> = Vec::new();
/// cache.for_each(|_, value| outlives.push(value));
/// ```
/// ```compile_fail,E0521
/// let cache = larder::Cache::<u64, String>::new(1);
/// let mut outlives: Vec<&u64> = Vec::new();
/// cache.retain(|key, _| {
///     outlives.push(key);
///     true
/// });
/// ```
#[cfg(doctest)]
struct Misuse;
