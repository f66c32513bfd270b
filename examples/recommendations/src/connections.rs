//! Connections: only as many as there is room for, and none that keeps its place without a word.
//!
//! `axum::serve` would do, but for that: it lets a client open connections without end, and send nothing on them.

use crate::console::warn;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};

/// Half of the files that a process may have open on most systems. Who comes when there are as many waits to be accepted.
const MOST: usize = 512;
/// For the head of a request, and for the pause before it.
const SILENCE: Duration = Duration::from_secs(30);
/// What keeps connections from being accepted, such as too many open files, takes a while to pass.
const REST: Duration = Duration::from_millis(100);

/// Serves until it is told to stop, or its sender is gone; then until all requests that have come are answered.
pub async fn serve(listener: TcpListener, router: Router, stop: oneshot::Receiver<()>) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(SILENCE);
    let open = GracefulShutdown::new();
    tokio::select! {
        () = accept(&listener, &router, &http, &open) => {}
        _ = stop => {}
    }
    // Who comes now is told at once that nobody is here.
    drop(listener);
    open.shutdown().await;
}

async fn accept(listener: &TcpListener, router: &Router, http: &http1::Builder, open: &GracefulShutdown) {
    let places = Arc::new(Semaphore::new(MOST));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("nobody closes it");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn(format_args!("a connection was not accepted: {error}"));
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        // An answer is one small write; to wait for more of it would only cost time.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let connection = open.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // What is wrong with a connection is the client's matter.
            let _ = connection.await;
            drop(place);
        });
    }
}
