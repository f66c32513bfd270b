//! Connections: only as many as there is room for, and none that keeps its place without a word.
//!
//! `axum::serve` would do, but for that: it lets a client open connections without end, and send nothing on them.

use crate::console::warn;
use crate::unparsed::Explaining;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot, watch};

/// Half of the files that a process may have open on most systems. Who comes when there are as many waits to be accepted.
const MOST: usize = 512;
/// For the head of a request, and for the pause before it.
const SILENCE: Duration = Duration::from_secs(30);
/// What keeps connections from being accepted, such as too many open files, takes a while to pass.
const REST: Duration = Duration::from_millis(100);

/// For an answer on its way to the client when the service stops.
const FLUSH: Duration = Duration::from_millis(250);

/// Tells requests that the service stops, and counts those that it has to answer before.
#[derive(Clone, Default)]
pub struct UnderWay {
    stopping: watch::Sender<bool>,
    whole: watch::Sender<usize>,
}

impl UnderWay {
    /// Waits until the service stops.
    pub async fn stopping(&self) {
        // There is a sender as long as `self` is there.
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }

    /// Counts a request that has come as a whole, until the guard is dropped.
    pub fn answering(&self) -> Answering<'_> {
        self.whole.send_modify(|whole| *whole += 1);
        Answering(self)
    }

    async fn all_answered(&self) {
        let _ = self.whole.subscribe().wait_for(|whole| *whole == 0).await;
    }
}

/// A request that is being answered.
pub struct Answering<'a>(&'a UnderWay);

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.0.whole.send_modify(|whole| *whole -= 1);
    }
}

/// Serves until it is told to stop, or its sender is gone; then until all requests that have come as a whole are answered.
pub async fn serve(listener: TcpListener, router: Router, under_way: UnderWay, stop: oneshot::Receiver<()>) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(SILENCE);
    let open = GracefulShutdown::new();
    tokio::select! {
        () = accept(&listener, &router, &http, &open) => {}
        _ = stop => {}
    }
    // Who comes now is told at once that nobody is here.
    drop(listener);
    under_way.stopping.send_replace(true);
    tokio::select! {
        () = open.shutdown() => {}
        // What is open then waits for the rest of a request.
        () = async {
            under_way.all_answered().await;
            tokio::time::sleep(FLUSH).await;
        } => {}
    }
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
        let connection = open.watch(http.serve_connection(TokioIo::new(Explaining::new(stream)), service));
        tokio::spawn(async move {
            // What is wrong with a connection is the client's matter.
            let _ = connection.await;
            drop(place);
        });
    }
}
