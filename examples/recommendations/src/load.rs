//! `--load`: simulated visitors, over HTTP on the loopback, before the service with its caches and before the same without.
//!
//! A visitor begins a session, looks at recommendations a few times, and now and then at the details of what is shown, or
//! clicks on something. A few users come often, most seldom. Both services are measured twice:
//!
//! * *At the same rate*, which keeps the one without caches busy for seven tenths of the time: how long users wait. The
//!   requests of a connection have times at which they are due, whatever the service does. One that is late, since the one
//!   before took so long, counts from when it was due: otherwise a service that stands still would be asked nothing meanwhile,
//!   and look fast.
//! * *As fast as they are answered*: how much the service can do. With caches many times as many requests share the same
//!   cores and the same disk, so their times do not compare with those of the other.
//!
//! Each connection has a thread of its own, so that the client does not wait for threads of the service. They share its cores.

use crate::client::Client;
use crate::console::{say, warn};
use crate::random::{Random, Zipf};
use crate::report::{self, RECOMMENDATIONS, Run};
use crate::server::{Config, Failure, Server, remove_data};
use hyper::body::Bytes;
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Of who comes: the law of Zipf as he stated it.
const SKEW: f64 = 1.0;
/// How often something that is shown is clicked on.
const CLICKS: f64 = 0.08;
const DETAILS: f64 = 0.2;
/// Not measured: both services start cold, and the one with caches warms them up as it does at each cold start.
const WARM_UP: Duration = Duration::from_secs(3);
/// At the same rate: enough of them that one that waits does not keep the others from being sent.
const CONNECTIONS: u32 = 8;
/// How busy the service without caches is then.
const BUSY: f64 = 0.7;

/// What the visitors of one measurement have in common.
#[derive(Clone)]
struct Traffic {
    server: SocketAddr,
    users: Arc<Zipf>,
    connections: u32,
    /// Between two requests of a connection, in the mean; `None` if there is none.
    pause: Option<Duration>,
    time: Duration,
}

/// Measures both and prints two tables.
pub async fn compare(config: Config, time: Duration) -> Result<(), Failure> {
    let size = config.size;
    say(format_args!(
        "{} users, {} items, {} events; 4 times {WARM_UP:?} to warm up and {time:?} to measure",
        size.users, size.items, size.events
    ));
    let users = Arc::new(Zipf::new(size.users, SKEW));
    // Waiting connections would only wait for a core.
    let cores = std::thread::available_parallelism().map_or(4, |cores| cores.get() as u32);
    let traffic = |server: &Server, pause: Option<Duration>| {
        let (server, users) = (server.address, Arc::clone(&users));
        let connections = if pause.is_some() { CONNECTIONS } else { cores };
        Traffic { server, users, connections, pause, time }
    };
    let off = Alone::start(&config, false).await?;
    let fast_off = traffic(&off.server, None).measure().await?;
    let rate = (fast_off.rate() * BUSY).max(1.0);
    let pause = Some(Duration::from_secs_f64(f64::from(CONNECTIONS) / rate));
    let even_off = traffic(&off.server, pause).measure().await?;
    off.stop().await?;
    let on = Alone::start(&config, true).await?;
    let even_on = traffic(&on.server, pause).measure().await?;
    let fast_on = traffic(&on.server, None).measure().await?;
    on.stop().await?;

    println!(
        "\nAT THE SAME RATE: {rate:.0} requests a second on {CONNECTIONS} connections, whether answered or not"
    );
    report::print(&even_on, &even_off);
    println!("\nAS FAST AS THEY ARE ANSWERED, on {cores} connections");
    report::print(&fast_on, &fast_off);
    println!("{:.1} times as many requests a second with caches", fast_on.rate() / fast_off.rate());
    Ok(())
}

/// A service that finds nothing that another has left, and leaves nothing.
struct Alone {
    server: Server,
    _folder: Folder,
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Alone {
    async fn start(config: &Config, is_caching: bool) -> Result<Self, Failure> {
        let folder = config.folder.join(if is_caching { "load-with" } else { "load-without" });
        remove_data(&folder)?;
        say(if is_caching { "with caches .." } else { "without caches .." });
        let config = Config { folder: folder.clone(), port: 0, is_caching, ..config.clone() };
        let folder = Folder(folder);
        Ok(Self { server: Server::start(config).await?, _folder: folder })
    }

    async fn stop(self) -> Result<(), Failure> {
        self.server.stop().await.map(drop)
    }
}

impl Traffic {
    async fn measure(self) -> Result<Run, Failure> {
        let begin = Instant::now() + WARM_UP;
        let visitors: Vec<_> = (0..self.connections)
            .map(|number| {
                let traffic = self.clone();
                tokio::task::spawn_blocking(move || {
                    let alone = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                    alone.block_on(Visitor::connect(&traffic, number, begin))
                })
            })
            .collect();
        let mut all = Run::of(self.time);
        for visitor in visitors {
            all.add(visitor.await??);
        }
        Ok(all)
    }
}

/// One connection, with one visit after the other.
struct Visitor<'t> {
    traffic: &'t Traffic,
    client: Client,
    random: Random,
    begin: Instant,
    due: Instant,
    run: Run,
}

impl<'t> Visitor<'t> {
    async fn connect(traffic: &'t Traffic, number: u32, begin: Instant) -> Result<Run, Failure> {
        let client = Client::connect(traffic.server).await?;
        let (random, due) = (Random::new(u64::from(number) << 32), Instant::now());
        let mut visitor = Self { traffic, client, random, begin, due, run: Run::default() };
        let end = begin + traffic.time;
        while Instant::now() < end {
            if let Err(error) = visitor.visit().await {
                warn(format_args!("a visit has ended early: {error}"));
                // Else a service that is gone would be asked without pause.
                std::thread::sleep(Duration::from_millis(100));
                visitor.client = Client::connect(traffic.server).await?;
            }
        }
        Ok(visitor.run)
    }

    async fn visit(&mut self) -> Result<(), Failure> {
        let user = self.traffic.users.rank(&mut self.random) + 1;
        let session = self.post("POST /session", "/session", &json!({ "user": user })).await?;
        let session = parse(&session)?["id"].clone();
        for _ in 0..2 + self.random.below(6) {
            let shown = self.get(RECOMMENDATIONS, &format!("/recommendations/{user}?n=10")).await?;
            let shown = parse(&shown)?;
            let items: Vec<_> =
                shown["items"].as_array().into_iter().flatten().map(|item| &item["id"]).collect();
            // Who may be shown nothing, in a small shop, looks again.
            if items.is_empty() {
                continue;
            }
            if self.random.is(DETAILS) {
                let ids: Vec<_> = items.iter().map(ToString::to_string).collect();
                self.get("GET /items", &format!("/items?ids={}", ids.join(","))).await?;
            }
            if self.random.is(CLICKS) {
                let item = items[self.random.below(items.len() as u32) as usize];
                let click = json!({ "user": user, "item": item, "kind": "click", "session": session });
                self.post("POST /events", "/events", &click).await?;
            }
        }
        Ok(())
    }

    async fn get(&mut self, route: &'static str, path: &str) -> Result<Bytes, Failure> {
        let from = self.wait();
        let answer = self.client.get(path).await;
        self.note(route, from, answer)
    }

    async fn post(&mut self, route: &'static str, path: &str, body: &Value) -> Result<Bytes, Failure> {
        let from = self.wait();
        let answer = self.client.post(path, body).await;
        self.note(route, from, answer)
    }

    /// Waits until the next request is due, and gives when its time begins.
    fn wait(&mut self) -> Instant {
        let Some(pause) = self.traffic.pause else { return Instant::now() };
        // Many users who know nothing of each other: now and then some come at once.
        self.due += pause.mul_f64(-(1.0 - self.random.part()).ln());
        match self.due.checked_duration_since(Instant::now()) {
            None => self.due,
            Some(rest) => {
                // Not the executor's timer, which is exact to a millisecond only. Nothing else runs in this thread.
                std::thread::sleep(rest);
                // That it slept for longer is no fault of the service.
                Instant::now()
            }
        }
    }

    fn note(
        &mut self,
        route: &'static str,
        from: Instant,
        answer: Result<(hyper::StatusCode, Bytes), Failure>,
    ) -> Result<Bytes, Failure> {
        let took = from.elapsed();
        let answer = answer.and_then(|(status, body)| match status.is_success() {
            true => Ok(body),
            false => Err(format!("{route}: {status}: {}", String::from_utf8_lossy(&body)).into()),
        });
        if from >= self.begin {
            self.run.note(route, answer.is_ok().then_some(took));
        }
        answer
    }
}

fn parse(body: &Bytes) -> Result<Value, Failure> {
    Ok(serde_json::from_slice(body)?)
}
