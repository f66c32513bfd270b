//! Connections for tasks.

use rusqlite::{Connection, Result};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// A few connections to one file, lent to one piece of blocking work each.
#[derive(Clone)]
pub(super) struct Pool {
    idle: Arc<Mutex<Vec<Connection>>>,
    /// As many permits as connections. Tasks wait here, which blocks no thread; and no more threads are busy than there are
    /// connections for them.
    free: Arc<Semaphore>,
}

impl Pool {
    pub(super) fn open(file: &Path, connections: usize) -> Result<Self> {
        let idle = (0..connections).map(|_| connect(file)).collect::<Result<Vec<_>>>()?;
        Ok(Self { idle: Arc::new(Mutex::new(idle)), free: Arc::new(Semaphore::new(connections)) })
    }

    /// Runs blocking work elsewhere and awaits it. Once begun it ends, even if nobody awaits it any more.
    ///
    /// # Panics
    ///
    /// If the work does.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T, Arc<rusqlite::Error>> {
        let permit = Arc::clone(&self.free).acquire_owned().await.expect("nobody closes it");
        let idle = Arc::clone(&self.idle);
        let work = spawn_blocking(move || {
            let mut lent = Lent { connection: take(&idle), idle };
            let done = lent.connection.as_mut().map(work);
            drop(lent);
            // After the connection is back.
            drop(permit);
            done.expect("there is a connection for each permit")
        });
        match work.await {
            Ok(done) => done.map_err(Arc::new),
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down.
                Err(_) => Err(Arc::new(rusqlite::Error::InvalidQuery)),
            },
        }
    }
}

/// A connection that goes back, also if the work panics.
struct Lent {
    connection: Option<Connection>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.extend(self.connection.take());
    }
}

fn take(idle: &Mutex<Vec<Connection>>) -> Option<Connection> {
    idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

pub(super) fn connect(file: &Path) -> Result<Connection> {
    let connection = Connection::open(file)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // With a write-ahead log readers and the writer do not wait for each other, and a process that is killed loses nothing.
    // `NORMAL` may lose the last events when the power fails; `FULL` would not, and waits for the disk with each event.
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update(None, "cache_size", -64 * 1024)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}
