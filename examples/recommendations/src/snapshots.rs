//! The caches on disk: saved when the service stops, and every minute, since it may be killed; loaded when it starts.
//!
//! A snapshot is older than the store, at least when the process was killed. The caches know all events up to some event, which
//! is noted beside them; who has done something since then is forgotten when they are loaded, and so is a model that is no
//! longer the last one. So a result that was computed before an event does not come back after it.
//!
//! ```text
//! users.larder behaviour.larder ..   one file for each cache
//! saved.json                         what they belong to; written after them
//! ```

use crate::caches::{Caches, MODEL};
use crate::console::{warn, with_causes};
use crate::service::{Error, Service};
use crate::store::Store;
use larder::{Cache, SnapshotError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::hash::Hash;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// To be changed when the types of keys or values change: then older files are not loaded.
const VERSION: u32 = 1;

/// What the files belong to.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    /// Which store.
    store: i64,
    /// The caches know all events up to this one,
    knows: i64,
    /// and none after this one.
    until: i64,
    /// Names of the caches that were saved. The file of another cache is older, and does not know all these events.
    caches: Vec<String>,
}

/// Where the snapshots are. A clone means the same place.
#[derive(Clone)]
pub struct Snapshots {
    folder: PathBuf,
    saving: Arc<Mutex<()>>,
}

impl Snapshots {
    pub fn new(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder).map_err(|error| naming(&folder, &error))?;
        Ok(Self { folder, saving: Arc::default() })
    }

    /// Saves all caches, and gives how many entries. One that cannot be saved is an error, when all others are saved.
    pub async fn save(&self, caches: &Caches, store: &Store) -> Result<u64, Error> {
        // It goes along into the blocking work, which ends even if nobody awaits it any more: otherwise it could write older
        // files over those of the next save.
        let only_one = Arc::clone(&self.saving).lock_owned().await;
        // Not the store's last event: the caches may not have been told of that one yet.
        let knows = store.last_told().await?;
        let (folder, caches) = (self.folder.clone(), caches.clone());
        let (only_one, all) = blocking(move || (only_one, save_all(&folder, &caches))).await?;
        let (saved, failed): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
        let saved: Vec<(String, u64)> = saved.into_iter().flatten().collect();
        let entries = saved.iter().map(|(_, entries)| entries).sum();
        let (store, until) = (store.shape().await?.identity, store.last_event().await?);
        let saved = Saved { store, knows, until, caches: saved.into_iter().map(|(name, _)| name).collect() };
        let text = serde_json::to_string(&saved).map_err(Error::internal)?;
        let note = note(&self.folder);
        let (_, noted) = blocking(move || {
            let noted = replace(&note, &text);
            (only_one, noted.map_err(|error| format!("{}: {error}", note.display())))
        })
        .await?;
        let failed: Vec<String> = failed.into_iter().filter_map(Result::err).chain(noted.err()).collect();
        if failed.is_empty() { Ok(entries) } else { Err(Error::Internal(failed.join("; "))) }
    }

    /// Loads what there is, before anybody uses the caches. Whatever is wrong with it, the service starts, if need be without.
    ///
    /// Gives what is to be told of it.
    pub async fn load(&self, caches: &Caches, store: &Store) -> Result<Vec<String>, Error> {
        let (identity, last) = (store.shape().await?.identity, store.last_event().await?);
        let (folder, target) = (self.folder.clone(), caches.clone());
        let (mut told, knows) = blocking(move || load_fitting(&folder, &target, identity, last)).await?;
        let Some(knows) = knows else { return Ok(told) };
        let active = store.active_since(knows).await?;
        active.iter().for_each(|&user| caches.forget(user));
        if !active.is_empty() {
            told.push(format!("forgot {} users who have acted since the snapshot", active.len()));
        }
        let newest = store.model_version().await?;
        if caches.models.remove_if(MODEL, |_, model| model.version != newest).is_some() {
            told.push(format!("forgot the model: {newest} was trained since the snapshot"));
        }
        Ok(told)
    }
}

/// Removes what there is, and nothing that somebody else may have put there.
pub fn remove(folder: &Path) -> io::Result<()> {
    remove_files(folder, |name| name.ends_with(".larder") || name.starts_with("saved.") || is_leftover(name))
}

/// What a process has begun to write that was killed then.
fn is_leftover(name: &str) -> bool {
    name.starts_with(".larder-") && name.ends_with(".tmp")
}

fn remove_files(folder: &Path, which: impl Fn(&str) -> bool) -> io::Result<()> {
    let files = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        files => files?,
    };
    for file in files {
        let file = file?;
        if which(&file.file_name().to_string_lossy()) {
            fs::remove_file(file.path()).map_err(|error| naming(&file.path(), &error))?;
        }
    }
    Ok(())
}

/// Files block as well as a store does.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)
}

fn note(folder: &Path) -> PathBuf {
    folder.join("saved.json")
}

fn noted(folder: &Path) -> io::Result<Option<Saved>> {
    match fs::read_to_string(note(folder)) {
        Ok(text) => Ok(Some(serde_json::from_str(&text)?)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn naming(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// What there is to tell, and, if the snapshot fits, up to which event its caches know all.
fn load_fitting(folder: &Path, caches: &Caches, store: i64, last: i64) -> (Vec<String>, Option<i64>) {
    let why = match noted(folder) {
        Ok(None) => return (vec!["cold start: there is no snapshot".to_owned()], None),
        Ok(Some(saved)) if saved.store != store => "it belongs to another store".to_owned(),
        Ok(Some(saved)) if saved.until > last => {
            format!("it knows event {}, and the store only those up to {last}", saved.until)
        }
        Ok(Some(saved)) => return (load_all(folder, caches, &saved.caches), Some(saved.knows)),
        Err(error) => format!("{}: {error}", note(folder).display()),
    };
    // What does not fit must not be taken for fitting later, when the store has as many events as it knew of.
    let _ = fs::remove_file(note(folder));
    (vec![format!("cold start: the snapshot cannot be used: {why}")], None)
}

/// The name of a cache and how many entries were saved, or why it was not saved.
type SavedOne = Result<(String, u64), String>;

fn save_all(folder: &Path, caches: &Caches) -> Vec<SavedOne> {
    vec![
        save(folder, &caches.users),
        save(folder, &caches.behaviour),
        save(folder, &caches.tastes),
        save(folder, &caches.items),
        save(folder, &caches.models),
        save(folder, &caches.results),
        save(folder, &caches.sessions),
    ]
}

fn load_all(folder: &Path, caches: &Caches, saved: &[String]) -> Vec<String> {
    vec![
        load(folder, &caches.users, saved),
        load(folder, &caches.behaviour, saved),
        load(folder, &caches.tastes, saved),
        load(folder, &caches.items, saved),
        load(folder, &caches.models, saved),
        load(folder, &caches.results, saved),
        load(folder, &caches.sessions, saved),
    ]
}

fn save<K, V>(folder: &Path, cache: &Cache<K, V>) -> SavedOne
where
    K: Hash + Eq + Send + Sync + Serialize + DeserializeOwned + 'static,
    V: Send + Sync + Serialize + DeserializeOwned + 'static,
{
    let (file, types) = identity(folder, cache);
    match cache.snapshot().types(types).save(&file) {
        Ok(report) => Ok((cache.name().unwrap_or_default().to_owned(), report.entries)),
        Err(error) => Err(naming_file(&file, &error)),
    }
}

fn naming_file(file: &Path, error: &SnapshotError) -> String {
    match error {
        // It names the file itself.
        SnapshotError::File { .. } => with_causes(error),
        _ => format!("{}: {}", file.display(), with_causes(error)),
    }
}

/// A cache whose file cannot be used starts empty; the others need not.
fn load<K, V>(folder: &Path, cache: &Cache<K, V>, saved: &[String]) -> String
where
    K: Hash + Eq + Send + Sync + Serialize + DeserializeOwned + 'static,
    V: Send + Sync + Serialize + DeserializeOwned + 'static,
{
    let (file, types) = identity(folder, cache);
    let name = cache.name().unwrap_or_default();
    if !saved.iter().any(|saved| saved == name) {
        return format!("{name}: cold, it could not be saved with the others");
    }
    match cache.snapshot().types(types).load(&file) {
        Ok(report) => format!("{name}: warm, {} entries", report.entries),
        Err(error) => format!("{name}: cold, {}", naming_file(&file, &error)),
    }
}

fn identity<K, V>(folder: &Path, cache: &Cache<K, V>) -> (PathBuf, String)
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let name = cache.name().unwrap_or_default();
    (folder.join(format!("{name}.larder")), format!("{name}, version {VERSION}"))
}

/// As a whole or not at all.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let aside = file.with_extension("new");
    let mut new = fs::File::create(&aside)?;
    new.write_all(text.as_bytes())?;
    new.sync_all()?;
    fs::rename(aside, file)
}

/// Saves every now and then. A process that is killed loses what came into the caches since.
pub async fn keep_saving(snapshots: Snapshots, service: Arc<Service>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        if let Err(error) = snapshots.save(&service.caches, &service.store).await {
            warn(format_args!("the snapshot was not saved: {error}"));
        }
    }
}
