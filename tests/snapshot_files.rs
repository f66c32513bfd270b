//! Files of snapshots, how long they may be, and caches out of the ordinary.
#![cfg(feature = "serde")]
#![allow(missing_docs)]

mod common;

use common::queue::Queue;
use common::{Same, for_all, policies, size};
use larder::policy::{End, Entries, Policy, Reads, Slot};
use larder::{
    Cache, Clock, Codec, EvictionPolicy, InsertOptions, RemovalCause, SnapshotError, SnapshotReport,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::fs;
use std::hash::Hash;
#[cfg(unix)]
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
#[cfg(unix)]
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier};
use std::time::Duration;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("larder-files-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&self.0)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn filled(policy: &EvictionPolicy, segments: usize, entries: u64) -> Cache<u64, String, ahash::RandomState> {
    let builder = Cache::builder().max_capacity(1_000).segments(segments).eviction_policy(policy.clone());
    let cache = builder.build_with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4)).unwrap();
    (0..entries).for_each(|key| cache.insert(key, format!("value {key}")));
    cache
}

fn bytes_of<K, V, S>(cache: &Cache<K, V, S>) -> Vec<u8>
where
    K: Hash + Eq + Serialize + DeserializeOwned + Send + Sync + 'static,
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
    S: std::hash::BuildHasher + 'static,
{
    let mut bytes = Vec::new();
    let report = cache.snapshot().save_to(&mut bytes).unwrap();
    assert_eq!(report.bytes, bytes.len() as u64);
    bytes
}

#[test]
fn a_file_that_cannot_be_written_leaves_all_as_it_was() {
    let folder = Folder::new("write");
    let cache = filled(&EvictionPolicy::default(), 1, 300);
    let io = |result: Result<SnapshotReport, SnapshotError>| {
        let error = result.unwrap_err();
        assert!(matches!(error, SnapshotError::File { .. }), "{error}");
    };
    // A directory is there.
    let taken = folder.0.join("taken");
    fs::create_dir(&taken).unwrap();
    io(cache.snapshot().save(&taken));
    fs::write(taken.join("file"), "text").unwrap();
    io(cache.snapshot().save(&taken));
    io(cache.snapshot().load(&taken));
    // No directory is there, or it is none.
    io(cache.snapshot().save(folder.0.join("missing").join("file")));
    io(cache.snapshot().load(folder.0.join("missing")));
    io(cache.snapshot().save(taken.join("file").join("file")));
    // No name.
    for path in ["", "/", "..", "a/.."] {
        io(cache.snapshot().save(Path::new(path)));
    }
    assert_eq!(folder.files(), ["taken"]);
    assert_eq!(fs::read(taken.join("file")).unwrap(), b"text");
    cache.validate();
    assert_eq!(cache.len(), 300);
}

/// As long as it is not whole a new snapshot does not take the place of an old one.
#[test]
fn a_save_that_fails_in_the_middle_leaves_the_old_file() {
    struct Failing;
    impl Codec<u64> for Failing {
        fn name(&self) -> &str {
            "failing"
        }
        fn encode(&self, value: &u64, into: &mut Vec<u8>) -> Result<(), Box<dyn Error + Send + Sync>> {
            // Large enough for some of it to be in the temporary file.
            into.resize(10_000, 0);
            if *value == 0 { Err("on purpose".into()) } else { Ok(()) }
        }
        fn decode(&self, _: &[u8]) -> Result<u64, Box<dyn Error + Send + Sync>> {
            Ok(0)
        }
    }
    let folder = Folder::new("middle");
    let path = folder.0.join("cache");
    let cache = Cache::<u64, u64>::builder()
        .max_capacity(100)
        .eviction_policy(EvictionPolicy::lru())
        .build()
        .unwrap();
    (0..100).for_each(|key| cache.insert(key, 1));
    cache.snapshot().save(&path).unwrap();
    let old = fs::read(&path).unwrap();
    let error = cache.snapshot().codec(Failing).save(&path).unwrap_err();
    assert!(matches!(error, SnapshotError::Encode { record: 99, .. }), "the coldest comes last: {error}");
    assert_eq!(fs::read(&path).unwrap(), old);
    assert_eq!(folder.files(), ["cache"]);
    cache.snapshot().load(&path).unwrap();
}

#[test]
fn files_that_are_no_snapshots_are_not_loaded() {
    let folder = Folder::new("load");
    let path = folder.0.join("file");
    let cache = filled(&EvictionPolicy::default(), 1, 3);
    for bytes in [&b""[..], b"\n", b"[1, 2, 3]", &[0; 100_000]] {
        fs::write(&path, bytes).unwrap();
        let error = cache.snapshot().load(&path).unwrap_err();
        assert!(matches!(error, SnapshotError::NotASnapshot), "{error}");
    }
    assert_eq!(cache.len(), 3);
    cache.validate();
    // And any file is replaced.
    cache.snapshot().save(&path).unwrap();
    cache.snapshot().load(&path).unwrap();
}

/// In the directory in which the tests run.
#[test]
fn a_path_may_be_a_name_only() {
    let name = format!("larder-files-{}.snapshot", std::process::id());
    let cache = filled(&EvictionPolicy::default(), 1, 3);
    let saved = cache.snapshot().save(&name);
    let again = filled(&EvictionPolicy::default(), 1, 0);
    let loaded = again.snapshot().load(&name);
    fs::remove_file(&name).unwrap();
    assert_eq!(saved.unwrap(), loaded.unwrap());
    assert_eq!(again.len(), 3);
}

#[cfg(unix)]
#[test]
fn a_folder_that_may_not_be_written_to_is_an_error() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("read-only");
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o500)).unwrap();
    // Whoever may do anything may do this, too.
    if fs::write(folder.0.join("probe"), "").is_err() {
        let error =
            filled(&EvictionPolicy::default(), 1, 3).snapshot().save(folder.0.join("file")).unwrap_err();
        assert!(matches!(error, SnapshotError::File { .. }), "{error}");
        assert!(folder.files().is_empty());
    }
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o700)).unwrap();
}

#[cfg(unix)]
#[test]
fn a_file_keeps_its_mode_and_a_link_leads_to_it() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = Folder::new("mode");
    let (path, link) = (folder.0.join("file"), folder.0.join("link"));
    let cache = filled(&EvictionPolicy::default(), 1, 3);
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    cache.snapshot().save(&path).unwrap();
    assert_eq!(mode(&path), 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    cache.snapshot().save(&path).unwrap();
    assert_eq!(mode(&path), 0o644);
    symlink("file", &link).unwrap();
    let larger = filled(&EvictionPolicy::default(), 1, 7);
    larger.snapshot().save(&link).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(mode(&path), 0o644);
    assert_eq!(cache.snapshot().load(&path).unwrap().entries + 3, 7, "three keys are there");
    // Also one that leads to nothing yet.
    fs::remove_file(&path).unwrap();
    cache.snapshot().save(&link).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!((mode(&path), folder.files()), (0o600, vec!["file".to_owned(), "link".to_owned()]));
}

/// An error that names it, and it is there as before, also where a link leads to it.
#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_not_replaced() {
    use std::os::unix::fs::{FileTypeExt, symlink};
    use std::os::unix::net::UnixListener;
    let folder = Folder::new("special");
    let at = |name: &str| folder.0.join(name);
    assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
    let _socket = UnixListener::bind(at("socket")).unwrap();
    fs::create_dir(at("folder")).unwrap();
    symlink("fifo", at("link")).unwrap();
    let before = folder.files();
    let cache = filled(&EvictionPolicy::default(), 1, 3);
    for path in [at("fifo"), at("socket"), at("folder"), at("link"), "/dev/null".into()] {
        let error = cache.snapshot().save(&path).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert_eq!(error.source().unwrap().to_string(), "what is there is no regular file");
    }
    let kind = |path: &Path| fs::symlink_metadata(path).unwrap().file_type();
    assert!(kind(&at("fifo")).is_fifo() && kind(&at("socket")).is_socket() && kind(&at("folder")).is_dir());
    assert!(kind(&at("link")).is_symlink() && kind(Path::new("/dev/null")).is_char_device());
    assert_eq!(folder.files(), before, "and nothing is left beside it");
}

/// Saves without end: in the processes that the next test kills.
#[cfg(unix)]
#[test]
fn a_save_without_end() {
    struct Stuck;
    impl Codec<u64> for Stuck {
        fn name(&self) -> &str {
            "stuck"
        }
        fn encode(&self, _: &u64, _: &mut Vec<u8>) -> Result<(), Box<dyn Error + Send + Sync>> {
            println!("{ENCODING}");
            // As long as the other process lives.
            std::io::stdin().read_to_end(&mut Vec::new())?;
            Err("nobody waits for it".into())
        }
        fn decode(&self, _: &[u8]) -> Result<u64, Box<dyn Error + Send + Sync>> {
            Ok(0)
        }
    }
    if let Some(path) = std::env::var_os(SAVE_WITHOUT_END) {
        let cache = Cache::new(10);
        cache.insert(1_u64, 1_u64);
        let _ = cache.snapshot().codec(Stuck).save(path);
    }
}

#[cfg(unix)]
const SAVE_WITHOUT_END: &str = "LARDER_SAVE_WITHOUT_END";
#[cfg(unix)]
const ENCODING: &str = "the temporary file is there";

#[cfg(unix)]
#[test]
fn what_a_killed_process_has_left_goes_with_the_next_save() {
    let folder = Folder::new("killed");
    let path = folder.0.join("cache");
    let cache = filled(&EvictionPolicy::default(), 1, 3);
    let temporary = || folder.files().into_iter().filter(|name| name.ends_with(".tmp")).count();
    let mut children: Vec<_> = (0..2)
        .map(|_| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "a_save_without_end", "--nocapture"]).env(SAVE_WITHOUT_END, &path);
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let said = BufReader::new(child.stdout.take().unwrap());
            assert!(said.lines().any(|line| line.unwrap().contains(ENCODING)), "it does not save");
            child
        })
        .collect();
    assert_eq!(temporary(), 2);
    let mut kill = |child: usize| {
        children[child].kill().unwrap();
        children[child].wait().unwrap();
    };
    kill(0);
    // One thread holds a file, too.
    let (saving, done) = (&Barrier::new(2), &Barrier::new(2));
    std::thread::scope(|scope| {
        let (mut told, path) = (0, &path);
        scope.spawn(move || {
            let cache = filled(&EvictionPolicy::default(), 1, 5);
            let wait = |_, _| {
                if told == 0 {
                    saving.wait();
                    done.wait();
                }
                told += 1;
            };
            cache.snapshot().progress(wait).save(path).unwrap();
        });
        saving.wait();
        cache.snapshot().save(path).unwrap();
        assert_eq!(temporary(), 2, "those of a living process and of a thread stay");
        done.wait();
    });
    assert_eq!(temporary(), 1);
    kill(1);
    cache.snapshot().save(&path).unwrap();
    assert_eq!(folder.files(), ["cache"]);
}

/// Whatever the limit: the file is no longer, and has the hottest.
#[test]
fn a_limit_keeps_the_hottest() {
    for policy in policies() {
        let cache = filled(&policy, 1, 60);
        (20..40).for_each(|key| _ = cache.get(&key));
        cache.insert_with(99, "pinned".to_owned(), InsertOptions::new().pinned(true));
        let all = bytes_of(&cache).len() as u64;
        let order: Vec<u64> = cache.hottest(100).into_iter().map(|entry| entry.0).collect();
        let (mut least, mut last) = (None, 0);
        for limit in (0..=all + 1).step_by(size(1, 97)) {
            let mut bytes = Vec::new();
            let report = match cache.snapshot().max_bytes(limit).save_to(&mut bytes) {
                Err(SnapshotError::TooLarge { limit: told }) => {
                    assert_eq!((told, least), (limit, None), "only where not even nothing fits");
                    continue;
                }
                result => result.unwrap(),
            };
            least.get_or_insert(limit);
            assert!(bytes.len() as u64 <= limit, "{policy}: {} of {limit} bytes", bytes.len());
            assert_eq!(report.bytes, bytes.len() as u64);
            assert_eq!(report.entries + report.left_out, 61);
            assert!(report.entries >= last, "{policy}: more room, but fewer entries");
            last = report.entries;
            // All of the time it takes to look at each file would be too long.
            if limit % 16 == 0 || limit >= all {
                let again = filled(&policy, 1, 0);
                let loaded = again.snapshot().max_bytes(limit).load_from(&bytes[..]).unwrap();
                again.validate();
                assert_eq!((loaded.entries, again.len() as u64), (report.entries, report.entries));
                let kept = report.entries as usize;
                if kept > 0 {
                    assert!(again.contains_key(&99));
                    assert!(order[..kept - 1].iter().all(|key| again.contains_key(key)), "{policy}, {limit}");
                }
            }
        }
        assert!(least.is_some_and(|least| least < 200));
        let mut exact = Vec::new();
        let report = cache.snapshot().max_bytes(all).save_to(&mut exact).unwrap();
        assert_eq!((report.left_out, exact.len() as u64), (0, all), "{policy}");
        // The header has the time, the last checksum what depends on it.
        let report = cache.snapshot().max_bytes(all - 1).save_to(Vec::new()).unwrap();
        assert!(report.bytes < all);
    }
}

#[test]
fn a_limit_keeps_the_hottest_of_all_segments() {
    for_all(|policy, segments| {
        let cache = filled(&policy, segments, 600);
        let mut bytes = Vec::new();
        let report = cache.snapshot().max_bytes(9_000).save_to(&mut bytes).unwrap();
        assert!(bytes.len() <= 9_000 && report.entries > 200, "{policy}, {segments}: {report:?}");
        assert_eq!(report.entries + report.left_out, 600);
        let again = filled(&policy, segments, 0);
        let loaded = again.snapshot().load_from(&bytes[..]).unwrap();
        assert_eq!((loaded.entries, again.len() as u64), (report.entries, report.entries));
        again.validate();
    });
}

#[test]
fn empty_caches_and_those_without_room() {
    for_all(|policy, segments| {
        let make = |capacity| {
            let builder = Cache::<u64, String>::builder().max_capacity(capacity).segments(segments);
            builder.eviction_policy(policy.clone()).build().unwrap()
        };
        let nothing = bytes_of(&make(10));
        assert_eq!(nothing.len(), bytes_of(&make(segments as u64)).len());
        let full = make(10);
        (0..10).for_each(|key| full.insert_with(key, String::new(), InsertOptions::new().weight(key % 2)));
        let some = bytes_of(&full);
        for capacity in [0, 1, 10] {
            for bytes in [&nothing, &some] {
                let cache = make(capacity);
                let report = cache.snapshot().load_from(&bytes[..]).unwrap();
                cache.validate();
                assert!(cache.weighted_size() <= capacity);
                assert_eq!(
                    report.entries + report.left_out,
                    if bytes == &nothing { 0 } else { full.len() as u64 }
                );
                if capacity == 0 || bytes == &nothing {
                    assert!(cache.is_empty());
                    assert_eq!(report.entries, 0);
                }
                cache.insert(1, "one".to_owned());
                cache.validate();
            }
        }
    });
}

/// Entries heavier than a segment's share: budget moves, when they are loaded as when they were inserted.
#[test]
fn heavy_entries_come_back() {
    for_all(|policy, segments| {
        let make = || {
            let builder = Cache::<u64, u64>::builder().max_capacity(100).segments(segments);
            builder.eviction_policy(policy.clone()).build().unwrap()
        };
        for weights in
            [vec![100], vec![60, 40], vec![1, 2, 97], vec![0, 30, 0, 30, 30, 9, 1], vec![25; 4], vec![26; 3]]
        {
            let cache = make();
            for (key, &weight) in (0..).zip(&weights) {
                cache.insert_with(key, weight, InsertOptions::new().weight(weight).pinned(true));
                cache.validate();
            }
            assert_eq!(cache.len(), weights.len(), "{policy}, {segments}: {weights:?}");
            for is_pinned in [true, false] {
                if !is_pinned {
                    (0..weights.len() as u64).for_each(|key| _ = cache.unpin(&key));
                }
                let again = make();
                let report = again.snapshot().load_from(&bytes_of(&cache)[..]).unwrap();
                again.validate();
                // With pins none can have gone for another; without, a segment may have evicted where it had no need to.
                if is_pinned || segments == 1 {
                    assert_eq!(report.entries, weights.len() as u64, "{policy}, {segments}: {weights:?}");
                    assert_eq!(again.len(), weights.len(), "{policy}, {segments}: {weights:?}");
                }
                assert!(
                    (0..)
                        .zip(&weights)
                        .all(|(key, &weight)| again.get(&key).is_none_or(|value| value == weight))
                );
                again.insert(1_000, 1);
                again.validate();
            }
        }
    });
}

/// One that names what are no entries, keeps words of its own, and tells all that it was given.
struct Liar(Queue);

impl Policy for Liar {
    fn reads(&self) -> Reads {
        Reads::Recorded
    }
    fn insert(&mut self, slot: Slot, entries: Entries<'_>) {
        self.0.insert(slot, entries);
    }
    fn moved(&mut self, old: Slot, new: Slot, entries: Entries<'_>) {
        self.0.moved(old, new, entries);
    }
    fn evict(&mut self, entries: Entries<'_>) -> Option<Slot> {
        self.0.evict(entries)
    }
    fn remove(&mut self, slot: Slot, cause: RemovalCause, entries: Entries<'_>) {
        self.0.remove(slot, cause, entries);
    }
    fn walk(&self, from: End, visit: &mut dyn FnMut(Slot) -> ControlFlow<()>) {
        self.0.walk(from, visit);
    }
    fn save(&self, _: Entries<'_>, visit: &mut dyn FnMut(Slot, u64)) {
        for &slot in self.0.0.iter().chain(&[Slot::new(100_000), Slot::new(u32::MAX)]) {
            visit(slot, 7);
            visit(slot, 8);
        }
    }
    fn save_rest(&self) -> Vec<u64> {
        vec![1, 2, u64::MAX]
    }
    fn restore(&mut self, slot: Slot, note: u64, entries: Entries<'_>) {
        assert!(note == 7 || note == 8);
        self.insert(slot, entries);
    }
    fn restore_rest(&mut self, words: &[u64], _: bool) {
        assert_eq!(words, [1, 2, u64::MAX]);
    }
}

#[test]
fn policies_of_ones_own() {
    for segments in [1, 4] {
        let make = |policy: EvictionPolicy| {
            let builder = Cache::<u64, u64>::builder().max_capacity(400).segments(segments);
            builder
                .eviction_policy(policy)
                .build_with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4))
                .unwrap()
        };
        let plain = || make(EvictionPolicy::custom(|_| Queue::default()));
        let liar = || make(EvictionPolicy::custom(|_| Liar(Queue::default())));
        let cache = plain();
        (0..60).for_each(|key| cache.insert(key, key));
        cache.remove(&7);
        let again = plain();
        again.snapshot().load_from(&bytes_of(&cache)[..]).unwrap();
        assert_eq!(again.hottest(100), cache.hottest(100));
        again.validate();

        let cache = liar();
        (0..60).for_each(|key| cache.insert(key, key));
        let again = liar();
        let report = again.snapshot().load_from(&bytes_of(&cache)[..]).unwrap();
        assert_eq!((report.entries, again.len()), (60, 60));
        again.validate();
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Shape {
    Nothing,
    Number(i64),
    Pair(String, Option<u8>),
    Named { left: Box<str>, right: Vec<Shape> },
}

fn shape(number: i64) -> Shape {
    match number % 4 {
        0 => Shape::Nothing,
        1 => Shape::Number(number - 5),
        2 => Shape::Pair(number.to_string(), (number % 3 == 0).then_some(9)),
        _ => Shape::Named { left: "é".into(), right: (0..number % 7).map(shape).collect() },
    }
}

fn come_back<K, V>(entries: Vec<(K, V)>)
where
    K: Clone + std::fmt::Debug + Hash + Eq + Serialize + DeserializeOwned + Send + Sync + 'static,
    V: Clone + std::fmt::Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let cache = Cache::<K, V>::builder().max_capacity(1_000).segments(1).build().unwrap();
    entries.iter().for_each(|(key, value)| cache.insert(key.clone(), value.clone()));
    let again = Cache::<K, V>::builder().max_capacity(1_000).segments(1).build().unwrap();
    again.snapshot().load_from(&bytes_of(&cache)[..]).unwrap();
    again.validate();
    assert_eq!(again.len(), cache.len());
    assert!(cache.iter().all(|(key, value)| again.get(&key) == Some(value)));
}

#[test]
fn keys_and_values_of_many_kinds() {
    come_back::<String, Option<String>>(
        (0..9).map(|n| (n.to_string(), (n % 2 == 0).then(|| "x".repeat(n)))).collect(),
    );
    come_back::<Box<str>, Vec<Vec<u8>>>(
        (0..9).map(|n| (n.to_string().into(), vec![vec![7; n]; n])).collect(),
    );
    come_back((0..40).map(|n| (shape(n), shape(n + 1))).collect());
    come_back((0..40_u8).map(|n| ((n, i128::MIN, ['é'; 2]), [f64::from(n), -0.0])).collect());
    come_back(vec![((), ())]);
    come_back::<u64, String>(vec![(1, "y".repeat(1_000_000)), (2, String::new())]);
}

/// Behind an `Arc`, by a codec of one's own: serde is told of such only with its feature `rc`.
#[test]
fn keys_and_values_behind_an_arc() {
    struct Text;
    impl Codec<Arc<str>> for Text {
        fn name(&self) -> &str {
            "text"
        }
        fn encode(&self, value: &Arc<str>, into: &mut Vec<u8>) -> Result<(), Box<dyn Error + Send + Sync>> {
            into.extend(value.as_bytes());
            Ok(())
        }
        fn decode(&self, bytes: &[u8]) -> Result<Arc<str>, Box<dyn Error + Send + Sync>> {
            Ok(std::str::from_utf8(bytes)?.into())
        }
    }
    let cache: Cache<Arc<str>, Arc<str>> = Cache::new(100);
    cache.insert("".into(), "".into());
    cache.insert("tea".into(), "thé".into());
    let mut bytes = Vec::new();
    cache.snapshot().codec(Text).save_to(&mut bytes).unwrap();
    let again: Cache<Arc<str>, Arc<str>> = Cache::new(100);
    again.snapshot().codec(Text).load_from(&bytes[..]).unwrap();
    assert_eq!((again.get("").as_deref(), again.get("tea").as_deref()), (Some(""), Some("thé")));
    again.validate();
}

#[test]
fn progress_grows_and_ends_with_all() {
    let cache: Cache<u64, u64> = Cache::builder().max_capacity(50_000).segments(8).build().unwrap();
    (0..size(20_000, 200) as u64).for_each(|key| cache.insert(key, key));
    for limit in [None, Some(30_000)] {
        let mut told = Vec::new();
        let snapshot = cache.snapshot().progress(|done, all| told.push((done, all)));
        let mut bytes = Vec::new();
        match limit {
            Some(limit) => snapshot.max_bytes(limit).save_to(&mut bytes).unwrap(),
            None => snapshot.save_to(&mut bytes).unwrap(),
        };
        check(&told);
        let mut told = Vec::new();
        let again: Cache<u64, u64> = Cache::builder().max_capacity(10_000).segments(2).build().unwrap();
        again.snapshot().progress(|done, all| told.push((done, all))).load_from(&bytes[..]).unwrap();
        check(&told);
    }

    fn check(told: &[(u64, u64)]) {
        assert!(told.is_sorted_by_key(|told| told.0), "{told:?}");
        assert!(told.iter().all(|(done, all)| done <= all), "{told:?}");
        let (done, all) = told.last().unwrap();
        assert_eq!(done, all, "{told:?}");
    }
}

/// By the time of day, where nothing is said of the time between.
#[test]
fn time_passes_between() {
    let make = || {
        let builder = Cache::<u64, u64>::builder().max_capacity(10).time_to_live(Duration::from_secs(60));
        builder.clock(Clock::precise()).record_ages().build().unwrap()
    };
    let cache = make();
    cache.insert(1, 1);
    cache.insert_with(2, 2, InsertOptions::new().ttl(Duration::from_millis(20)));
    let bytes = bytes_of(&cache);
    std::thread::sleep(Duration::from_millis(30));
    let again = make();
    let report = again.snapshot().load_from(&bytes[..]).unwrap();
    assert_eq!((report.entries, report.left_out), (1, 1));
    let metadata = again.metadata(&1).unwrap();
    assert!(metadata.remaining <= Some(Duration::from_millis(59_970)), "{metadata:?}");
    assert!(metadata.age >= Some(Duration::from_millis(30)), "{metadata:?}");
    again.validate();
}

#[test]
fn keys_that_all_have_the_same_hash() {
    for_all(|policy, segments| {
        let make = || {
            let builder = Cache::<u64, u64>::builder().max_capacity(200).segments(segments);
            builder.eviction_policy(policy.clone()).build_with_hasher(Same).unwrap()
        };
        let cache = make();
        (0..30).for_each(|key| cache.insert(key, key));
        let again = make();
        let report = again.snapshot().load_from(&bytes_of(&cache)[..]).unwrap();
        assert_eq!((report.entries, again.len()), (cache.len() as u64, cache.len()));
        again.validate();
    });
}
