//! The caches on disk: saved when the service stops, and every minute, since it may be killed; loaded when it starts.
//!
//! A snapshot is older than the store, at least when the process was killed. The caches know all events up to some event, which
//! is noted beside them; who has done something since then is forgotten when they are loaded. So a result that was computed
//! before an event does not come back after it.
//!
//! ```text
//! users.larder behaviour.larder ..   one file for each cache
//! saved.json                         what they belong to; written after them
//! ```

use crate::caches::Caches;
use crate::service::{Error, Service};
use crate::store::Store;
use larder::{Cache, SnapshotError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::hash::Hash;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

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
}

/// Where the snapshots are.
#[derive(Clone)]
pub struct Snapshots(PathBuf);

impl Snapshots {
    pub fn new(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }

    /// Saves all caches, and gives how many entries.
    pub async fn save(&self, caches: &Caches, store: &Store) -> Result<u64, Error> {
        let knows = store.last_event().await?;
        let (folder, caches) = (self.0.clone(), caches.clone());
        // Files block as well.
        let entries = tokio::task::spawn_blocking(move || save_all(&folder, &caches)).await;
        let entries = entries.map_err(Error::internal)?.map_err(Error::internal)?;
        let saved = Saved { store: store.shape().await?.identity, knows, until: store.last_event().await? };
        let text = serde_json::to_string(&saved).map_err(Error::internal)?;
        replace(&self.note(), &text).map_err(Error::internal)?;
        Ok(entries)
    }

    /// Loads what there is, before anybody uses the caches. Whatever is wrong with it, the service starts, if need be without.
    ///
    /// Gives what is to be told of it.
    pub async fn load(&self, caches: &Caches, store: &Store) -> Result<Vec<String>, Error> {
        let (identity, last) = (store.shape().await?.identity, store.last_event().await?);
        let saved = match self.noted() {
            Ok(None) => return Ok(vec!["cold start: there is no snapshot".to_owned()]),
            Ok(Some(saved)) if saved.store == identity && saved.until <= last => saved,
            Ok(Some(_)) => {
                return self.refuse("it belongs to another store, or to a newer state of this one");
            }
            Err(error) => return self.refuse(&error.to_string()),
        };
        let (folder, target) = (self.0.clone(), caches.clone());
        let loading = tokio::task::spawn_blocking(move || load_all(&folder, &target));
        let mut told = loading.await.map_err(Error::internal)?;
        let active = store.active_since(saved.knows).await?;
        active.iter().for_each(|&user| caches.forget(user));
        if !active.is_empty() {
            told.push(format!("forgot {} users who have acted since the snapshot", active.len()));
        }
        Ok(told)
    }

    /// What does not fit must not be taken for fitting later, when the store has as many events as it knew of.
    fn refuse(&self, why: &str) -> Result<Vec<String>, Error> {
        let _ = fs::remove_file(self.note());
        Ok(vec![format!("cold start: the snapshot cannot be used: {why}")])
    }

    fn note(&self) -> PathBuf {
        self.0.join("saved.json")
    }

    fn noted(&self) -> io::Result<Option<Saved>> {
        match fs::read_to_string(self.note()) {
            Ok(text) => Ok(Some(serde_json::from_str(&text)?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn save_all(folder: &Path, caches: &Caches) -> Result<u64, SnapshotError> {
    Ok(save(folder, &caches.users)?
        + save(folder, &caches.behaviour)?
        + save(folder, &caches.tastes)?
        + save(folder, &caches.items)?
        + save(folder, &caches.models)?
        + save(folder, &caches.results)?
        + save(folder, &caches.sessions)?)
}

fn load_all(folder: &Path, caches: &Caches) -> Vec<String> {
    vec![
        load(folder, &caches.users),
        load(folder, &caches.behaviour),
        load(folder, &caches.tastes),
        load(folder, &caches.items),
        load(folder, &caches.models),
        load(folder, &caches.results),
        load(folder, &caches.sessions),
    ]
}

fn save<K, V>(folder: &Path, cache: &Cache<K, V>) -> Result<u64, SnapshotError>
where
    K: Hash + Eq + Send + Sync + Serialize + DeserializeOwned + 'static,
    V: Send + Sync + Serialize + DeserializeOwned + 'static,
{
    let (file, types) = identity(folder, cache);
    Ok(cache.snapshot().types(types).save(file)?.entries)
}

/// A cache whose file cannot be used starts empty; the others need not.
fn load<K, V>(folder: &Path, cache: &Cache<K, V>) -> String
where
    K: Hash + Eq + Send + Sync + Serialize + DeserializeOwned + 'static,
    V: Send + Sync + Serialize + DeserializeOwned + 'static,
{
    let (file, types) = identity(folder, cache);
    let name = cache.name().unwrap_or_default();
    match cache.snapshot().types(types).load(&file) {
        Ok(report) => format!("{name}: warm, {} entries", report.entries),
        Err(error) => format!("{name}: cold, {}: {error}", file.display()),
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
    fs::write(&aside, text)?;
    fs::File::open(&aside)?.sync_all()?;
    fs::rename(aside, file)
}

/// Saves every now and then. A process that is killed loses what came into the caches since.
pub async fn keep_saving(snapshots: Snapshots, service: Arc<Service>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        if let Err(error) = snapshots.save(&service.caches, &service.store).await {
            eprintln!("the snapshot was not saved: {error}");
        }
    }
}
