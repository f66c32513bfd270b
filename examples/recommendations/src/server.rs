//! Starts and stops the service: store, caches, background work, HTTP.

use crate::api::{Shared, router};
use crate::caches::Caches;
use crate::connections::{self, UnderWay};
use crate::service::Service;
use crate::snapshots::{self, Snapshots, keep_saving};
use crate::store::{Shape, Size, Store};
use rusqlite::{Connection, ErrorCode};
use std::error::Error;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinHandle};

pub type Failure = Box<dyn Error + Send + Sync>;

/// How long requests that are under way may take when the service is told to stop. Then it saves and ends all the same.
pub const PATIENCE: Duration = Duration::from_secs(5);

const STORE: &str = "shop.sqlite";
const LOCK: &str = "lock.sqlite";

#[derive(Clone, Debug)]
pub struct Config {
    pub folder: PathBuf,
    pub port: u16,
    /// The size of a new store.
    pub size: Size,
    /// The numbers of users and items that a store from before has to have; `None` if any will do.
    pub expects: (Option<u32>, Option<u32>),
    pub is_caching: bool,
    pub save_every: Duration,
    pub train_every: Duration,
}

impl Config {
    /// The file with all data but the snapshots.
    pub fn store(&self) -> PathBuf {
        self.folder.join(STORE)
    }
}

/// A service that runs until [`Server::stop`].
pub struct Server {
    pub address: SocketAddr,
    pub service: Arc<Service>,
    /// What there is to tell of the start.
    pub told: Vec<String>,
    snapshots: Snapshots,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    background: Vec<AbortHandle>,
    _only_one: Connection,
}

impl Server {
    pub async fn start(config: Config) -> Result<Self, Failure> {
        fs::create_dir_all(&config.folder)
            .map_err(|error| format!("{}: cannot be made: {error}", config.folder.display()))?;
        let only_one = be_the_only_one(&config.folder)?;
        // Before anything takes long.
        let listener = listen(config.port).await?;
        let mut told = Vec::new();
        let store = open_store(&config, &mut told).await?;
        let snapshots = Snapshots::new(config.folder.join("snapshots"))?;
        let (caches, due) = Caches::new()?;
        if config.is_caching {
            told.extend(snapshots.load(&caches, &store).await?);
        }
        let service = Arc::new(Service::new(store, caches, config.is_caching).await?);
        let mut background = vec![tokio::spawn(Arc::clone(&service).refresh(due)).abort_handle()];
        background.push(tokio::spawn(Arc::clone(&service).keep_training(config.train_every)).abort_handle());
        if config.is_caching {
            let saving = keep_saving(snapshots.clone(), Arc::clone(&service), config.save_every);
            background.push(tokio::spawn(saving).abort_handle());
            background.push(tokio::spawn(Arc::clone(&service).warm_up()).abort_handle());
        }
        let address = listener.local_addr()?;
        let under_way = UnderWay::default();
        let shared =
            Shared { service: Arc::clone(&service), requests: Arc::default(), under_way: under_way.clone() };
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(connections::serve(listener, router(shared), under_way, stopped));
        Ok(Self { address, service, told, snapshots, stop, serving, background, _only_one: only_one })
    }

    /// Ends what is under way, saves the caches, and tells how.
    pub async fn stop(self) -> Result<String, Failure> {
        // Nobody listens any more if serving has failed; then that is told below.
        let _ = self.stop.send(());
        let abort = self.serving.abort_handle();
        match tokio::time::timeout(PATIENCE, self.serving).await {
            Ok(served) => served?,
            // A request that does not end.
            Err(_) => abort.abort(),
        }
        self.background.iter().for_each(AbortHandle::abort);
        if !self.service.is_caching() {
            return Ok("stopped".to_owned());
        }
        let begun = Instant::now();
        let entries = self.snapshots.save(&self.service.caches, &self.service.store).await?;
        Ok(format!("saved {entries} entries in {:.0?}", begun.elapsed()))
    }
}

async fn listen(port: u16) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    listener.map_err(|error| format!("port {port}: {error}; with --port 0 the system chooses one").into())
}

async fn open_store(config: &Config, told: &mut Vec<String>) -> Result<Store, Failure> {
    let file = config.store();
    let (is_new, size, begun) = (!file.exists(), config.size, Instant::now());
    let (store, shape) = open_any(&file, size).await.map_err(|error| {
        let rest = if is_new { "" } else { "; --fresh begins anew, --data takes another folder" };
        format!("{}: {error}{rest}", file.display())
    })?;
    if is_new {
        let Size { users, items, events } = size;
        let took = begun.elapsed();
        told.push(format!("made up {users} users, {items} items and {events} events in {took:.1?}"));
    } else if config.expects.0.is_some_and(|users| users != shape.users)
        || config.expects.1.is_some_and(|items| items != shape.items)
    {
        return Err(format!(
            "{} has {} users and {} items: leave --users and --items out, or begin anew with --fresh, or take another folder \
             with --data",
            file.display(),
            shape.users,
            shape.items,
        )
        .into());
    }
    Ok(store)
}

async fn open_any(file: &Path, size: Size) -> Result<(Store, Shape), Failure> {
    let file = file.to_owned();
    let store = tokio::task::spawn_blocking(move || Store::open(&file, size)).await??;
    let shape = store.shape().await?;
    Ok((store, shape))
}

/// Two processes with caches of their own before one store would not tell each other what changes. The system gives the
/// lock back when the process ends, however it does.
fn be_the_only_one(folder: &Path) -> Result<Connection, Failure> {
    let file = folder.join(LOCK);
    let lock = || {
        let lock = Connection::open(&file)?;
        lock.busy_timeout(Duration::from_secs(1))?;
        lock.execute_batch("BEGIN EXCLUSIVE")?;
        Ok(lock)
    };
    lock().map_err(|error: rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy) => {
            format!("{}: another process is using it; --data takes another folder", folder.display()).into()
        }
        _ => format!(
            "{}: cannot be locked: {error}; it may be removed if no other process is using the folder",
            file.display()
        )
        .into(),
    })
}

/// Removes what the service has put into its folder, and nothing else.
pub fn remove_data(folder: &Path) -> Result<(), Failure> {
    if !folder.exists() {
        return Ok(());
    }
    let _only_one = be_the_only_one(folder)?;
    for name in fs::read_dir(folder)?.map(|file| Ok(file?.file_name())).collect::<io::Result<Vec<_>>>()? {
        // With its log, and what was begun of a new one.
        if name.to_string_lossy().starts_with(STORE) || name.to_string_lossy().starts_with("shop.new") {
            fs::remove_file(folder.join(&name))
                .map_err(|error| format!("{}: {error}", folder.join(&name).display()))?;
        }
    }
    Ok(snapshots::remove(&folder.join("snapshots"))?)
}
