//! A small service in a folder of its own.

#![allow(dead_code, reason = "not each test needs all of it")]

use recommendations::client::Client;
use recommendations::server::{Config, Server};
use recommendations::store::Size;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) const SIZE: Size = Size { users: 400, items: 240, events: 6_000 };

/// A folder that goes when it is dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            folder: self.0.clone(),
            port: 0,
            size: SIZE,
            expects: (None, None),
            is_caching: true,
            save_every: Duration::from_secs(3_600),
            train_every: Duration::from_secs(3_600),
        }
    }

    pub(crate) async fn start(&self) -> Server {
        Server::start(self.config()).await.unwrap()
    }

    pub(crate) async fn start_without_caches(&self) -> Server {
        Server::start(Config { is_caching: false, ..self.config() }).await.unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The answer to a request that should succeed.
pub(crate) async fn get(client: &mut Client, path: &str) -> Value {
    let (status, body) = client.get(path).await.unwrap();
    assert!(status.is_success(), "{path}: {status}: {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

pub(crate) async fn post(client: &mut Client, path: &str, body: Value) -> Value {
    let (status, answer) = client.post(path, &body).await.unwrap();
    assert!(status.is_success(), "{path}: {status}: {}", String::from_utf8_lossy(&answer));
    serde_json::from_slice(&answer).unwrap()
}

/// The counters of one cache.
pub(crate) async fn cache(client: &mut Client, name: &str) -> Value {
    let stats = get(client, "/stats.json").await;
    let caches = stats["caches"].as_array().unwrap();
    caches.iter().find(|cache| cache["name"] == name).unwrap().clone()
}
