//! Snapshots: what a cache holds, in a file.
//!
//! ```text
//! save     from a cache to a file
//! load     from a file to a cache
//! record   an entry, or a part of what a policy knows
//! header   what the file is a snapshot of
//! codec    keys and values as bytes
//! fields   numbers and strings of which records are made
//! frame    records in blocks with checksums: the file's format, whatever the records are
//! file     replaces a file as a whole, or not at all
//! ```

mod codec;
mod fields;
mod file;
mod frame;
mod header;
mod load;
mod record;
mod save;

pub use codec::{Bincode, Codec};

use crate::cache::Cache;
use crate::error::SnapshotError;
use header::Header;
use std::any::type_name;
use std::fmt;
use std::fs::File;
use std::hash::{BuildHasher, Hash};
use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Progress is told after so many entries.
const PROGRESS_EVERY: u64 = 1 << 12;

type Progress<'a> = Box<dyn FnMut(u64, u64) + 'a>;

/// Saves what a cache holds, and loads it into another: [`Cache::snapshot`].
///
/// A snapshot has the entries, with the life that is left of each, its weight, tags, reads and pin, and what the eviction
/// policy knows, so that a cache that is started again decides as it would have.
///
/// ```
/// use larder::Cache;
///
/// let cache: Cache<String, u32> = Cache::new(100);
/// cache.insert("tea".to_owned(), 7);
/// let mut bytes = Vec::new();
/// cache.snapshot().save_to(&mut bytes)?;
///
/// // After a restart.
/// let cache: Cache<String, u32> = Cache::new(100);
/// let report = cache.snapshot().load_from(&bytes[..])?;
/// assert_eq!(report.entries, 1);
/// assert_eq!(cache.get("tea"), Some(7));
/// # Ok::<(), larder::SnapshotError>(())
/// ```
///
/// # What comes back
///
/// - Entries that are there already, or are being loaded, stay: they are newer. An entry that is made invalid while a snapshot
///   is being loaded may come back: load before the cache is used.
/// - The time between is part of an entry's life: see [`downtime`](Self::downtime). What lived by the old cache's builder lives no
///   longer than the new one's says. An [`Expiry`](crate::Expiry) is not asked until the entry is read.
/// - A cache with less room gets the hottest entries, those that [`hottest`](Cache::hottest) gives first; under `fifo` these are
///   the newest. One with another policy gets them from the coldest to the hottest, without what the old one knew.
/// - Keys are hashed anew. What a policy remembers of keys that are *not* there, by hash, comes back only if the new cache has as
///   many segments, and a hasher with the same seeds: [`build_with_hasher`](crate::Builder::build_with_hasher). The default
///   hasher has others in each process.
/// - [`Bincode`] encodes keys and values, if no other [codec](Self::codec) is given. It cannot carry all serde attributes, and
///   values in an `Arc` need serde's feature `rc`.
/// - The listener hears of entries that have to go again to make room. No statistics come along.
///
/// # Any bytes
///
/// Loading bytes that are no snapshot, or not a whole one, is an error that says where, and leaves the cache as it was.
/// Checksums find all accidents of up to 32 bits in a row, and with next to no doubt all others; they do not tell who has written the
/// file. Whatever the bytes, loading does not panic, and takes no more memory than in proportion to what it has read, as long
/// as the codec does likewise, which [`Bincode`] does.
#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
#[must_use = "a snapshot does nothing until it is saved or loaded"]
pub struct Snapshot<'a, K, V, S, C = Bincode> {
    cache: &'a Cache<K, V, S>,
    codec: C,
    types: Option<String>,
    max_bytes: Option<u64>,
    downtime: Option<Duration>,
    progress: Progress<'a>,
}

/// What has been saved or loaded.
#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotReport {
    /// How many entries were written, or are now in the cache. (To make room for later ones, some may have left again.)
    pub entries: u64,
    /// How many there were for which there was no room, in the file or in the cache; and, when loading, those that were over, or whose keys
    /// were there.
    pub left_out: u64,
    /// How many bytes the snapshot has.
    pub bytes: u64,
}

#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher + 'static,
{
    /// To save what the cache holds, or to load what another one held.
    pub fn snapshot(&self) -> Snapshot<'_, K, V, S> {
        let progress = Box::new(|_, _| {});
        Snapshot { cache: self, codec: Bincode, types: None, max_bytes: None, downtime: None, progress }
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
impl<'a, K, V, S, C> Snapshot<'a, K, V, S, C> {
    /// Has keys and values encoded otherwise than by [`Bincode`].
    pub fn codec<D>(self, codec: D) -> Snapshot<'a, K, V, S, D> {
        let Self { cache, types, max_bytes, downtime, progress, .. } = self;
        Snapshot { cache, codec, types, max_bytes, downtime, progress }
    }

    /// A name for what keys and values are; a snapshot under another name is not loaded.
    ///
    /// It takes the place of the names that the compiler has for their types, which say nothing of fields, and may be others in the next
    /// version. Change it when the types change.
    pub fn types(mut self, name: impl Into<String>) -> Self {
        self.types = Some(name.into());
        self
    }

    /// How many bytes the snapshot may have: one that is saved gets the [hottest](Cache::hottest) entries that fit, one with more is
    /// not loaded. Pinned entries come first, and those of weight 0 that are [never evicted](crate::Builder::weigher) last.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// How long it is since the snapshot was saved: entries that have ended meanwhile are not loaded.
    ///
    /// If nothing is said that is what the system's time of day makes of it; nothing, if that was set back, or if the cache has a
    /// [manual clock](crate::Clock::manual).
    pub fn downtime(mut self, time: Duration) -> Self {
        self.downtime = Some(time);
        self
    }

    /// Is called now and then with how many entries have been written or read, and about how many there are. The last call
    /// has the same number twice.
    pub fn progress(mut self, progress: impl FnMut(u64, u64) + 'a) -> Self {
        self.progress = Box::new(progress);
        self
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
impl<K, V, S, C> Snapshot<'_, K, V, S, C>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher + 'static,
    C: Codec<K> + Codec<V>,
{
    /// Saves to a file. Until all of it is on the disk, what was there before stays there; then it takes its place.
    ///
    /// While it is being saved, the cache can be used: each entry is saved as it is at some moment meanwhile, and entries that come
    /// later may be left out. First the lock of each segment is held for a time that is proportional to the segment's
    /// entries, some nanoseconds for each, and then each for a hundred entries at a time. Beside the entries of the moment it takes 24 bytes of
    /// memory for each entry of the cache, and what the policy knows beside them.
    ///
    /// On Unix a new file can be read by its owner only; it keeps the mode of one that it replaces. A symbolic link stays, and
    /// what it leads to is replaced or created. What is no regular file, such as a FIFO, a device or a directory, is not
    /// replaced.
    ///
    /// The snapshot is written to a temporary file in the same directory, `.larder-(number).tmp`, which goes when saving fails. A
    /// process that is killed leaves it there, and the next save into that directory removes it. One that another thread or
    /// process is writing is locked ([`File::try_lock`](std::fs::File::try_lock)) and stays, also if that process runs in another
    /// container. Where the file system or the operating system has no locks, leftovers stay.
    ///
    /// ```
    /// # let folder = std::env::temp_dir().join(format!("larder-doc-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder)?;
    /// # let path = folder.join("users.larder");
    /// let cache = larder::Cache::new(100);
    /// cache.insert(7, "Ada".to_owned());
    /// let report = cache.snapshot().types("users, version 1").save(&path)?;
    /// assert_eq!(report.bytes, std::fs::metadata(&path)?.len());
    ///
    /// let cache: larder::Cache<i32, String> = larder::Cache::new(100);
    /// cache.snapshot().types("users, version 1").load(&path)?;
    /// assert_eq!(cache.get(&7).as_deref(), Some("Ada"));
    /// # std::fs::remove_dir_all(&folder)?;
    /// # Ok::<(), larder::SnapshotError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the file cannot be written, also since there is something else than a regular file, which is an
    /// [error with the path](SnapshotError::File); or if the codec cannot encode an entry.
    pub fn save(self, path: impl AsRef<Path>) -> Result<SnapshotReport, SnapshotError> {
        let path = path.as_ref();
        file::write_atomically(path, |file| self.save_to(file)).map_err(|error| error.at(path))
    }

    /// As [`save`](Self::save), to any writer, in pieces of some ten thousand bytes.
    ///
    /// # Errors
    ///
    /// If the writer fails, or the codec cannot encode an entry.
    pub fn save_to(self, writer: impl Write) -> Result<SnapshotReport, SnapshotError> {
        save::save(self, writer)
    }

    /// Loads from a file.
    ///
    /// All of it is read before the first entry goes into the cache, so it takes the memory of the entries beside what the
    /// cache has.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is no snapshot, not a whole one, one of other types or of another codec, or if the codec cannot decode an
    /// entry. The cache is as before then.
    pub fn load(self, path: impl AsRef<Path>) -> Result<SnapshotReport, SnapshotError> {
        let path = path.as_ref();
        let loaded = File::open(path).map_err(SnapshotError::from).and_then(|file| self.load_from(file));
        loaded.map_err(|error| error.at(path))
    }

    /// As [`load`](Self::load), from any reader. Nothing may follow in it.
    ///
    /// # Errors
    ///
    /// As `load`.
    pub fn load_from(self, reader: impl Read) -> Result<SnapshotReport, SnapshotError> {
        load::load(self, BufReader::with_capacity(1 << 16, reader))
    }

    /// What the file is to say of itself.
    fn header(&self, entries: u64) -> Header {
        let (key_type, value_type) = match &self.types {
            Some(name) => (name.clone(), String::new()),
            None => (type_name::<K>().to_owned(), type_name::<V>().to_owned()),
        };
        Header {
            created: SystemTime::now(),
            key_type,
            value_type,
            key_codec: Codec::<K>::name(&self.codec).to_owned(),
            value_codec: Codec::<V>::name(&self.codec).to_owned(),
            policy: self.cache.policy().to_string(),
            capacity: self.cache.capacity(),
            time_to_live: self.cache.inner.rules.life.ttl,
            segments: self.cache.inner.segments.len() as u32,
            entries,
            hasher_probe: self.cache.inner.hasher.hash_one("larder"),
        }
    }
}

impl<K, V, S, C> fmt::Debug for Snapshot<'_, K, V, S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("types", &self.types).finish_non_exhaustive()
    }
}
