//! `--load`: simulated visitors, over HTTP on the loopback, before the service with its caches and before the same without.
//!
//! A visitor begins a session, looks at recommendations a few times, and now and then at the details of what is shown, or
//! clicks on something. A few users come often, most seldom. Each connection sends its next request when it has the answer to
//! the one before, without pause, so both services are as busy as they can be. There are as many connections as cores, which
//! client and server share: with more, requests would mostly wait for a core.

use crate::client::Client;
use crate::random::{Random, Zipf};
use crate::server::{Config, Failure, Server, remove_data};
use hyper::StatusCode;
use hyper::body::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Of who comes: the law of Zipf as he stated it.
const SKEW: f64 = 1.0;
/// How often something that is shown is clicked on.
const CLICKS: f64 = 0.08;
const DETAILS: f64 = 0.2;
/// Not measured: both services start cold, and the one with caches warms them up as it does at each cold start.
const WARM_UP: Duration = Duration::from_secs(3);
/// What the caches are to be good for.
const P50_BAR: f64 = 10.0;
const P99_BAR: f64 = 3.0;

const RECOMMENDATIONS: &str = "GET /recommendations";
const ALL: &str = "all requests";

/// How long the requests of each kind took.
type Times = BTreeMap<&'static str, Vec<Duration>>;

struct Measured {
    times: Times,
    seconds: f64,
}

/// Measures both and prints a table.
pub async fn compare(config: Config, time: Duration) -> Result<(), Failure> {
    let connections = std::thread::available_parallelism().map_or(4, usize::from);
    println!(
        "{connections} connections, {} users, {} items, {} events; {:.0?} each, after {WARM_UP:.0?} that are not counted",
        config.size.users, config.size.items, config.size.events, time
    );
    // Neither finds what the other has left.
    let with = measure(&config, true, connections, time).await?;
    let without = measure(&config, false, connections, time).await?;
    print_table(&with, &without);
    Ok(())
}

async fn measure(
    config: &Config,
    is_caching: bool,
    connections: usize,
    time: Duration,
) -> Result<Measured, Failure> {
    let folder = config.folder.join(if is_caching { "load-with" } else { "load-without" });
    remove_data(&folder)?;
    let server =
        Server::start(Config { folder: folder.clone(), port: 0, is_caching, ..config.clone() }).await?;
    println!("{} caches: {}", if is_caching { "with" } else { "without" }, server.told[0]);
    let users = Arc::new(Zipf::new(config.size.users, SKEW));
    let begin = Instant::now() + WARM_UP;
    let visitors: Vec<_> = (0..connections as u64)
        .map(|number| {
            let visitor =
                visit(server.address, Random::new(number << 32), Arc::clone(&users), begin, begin + time);
            tokio::spawn(visitor)
        })
        .collect();
    let mut times = Times::new();
    for visitor in visitors {
        for (route, mut some) in visitor.await?? {
            times.entry(ALL).or_default().extend(&some);
            times.entry(route).or_default().append(&mut some);
        }
    }
    times.values_mut().for_each(|times| times.sort_unstable());
    println!("  {}", server.stop().await?);
    fs::remove_dir_all(folder)?;
    Ok(Measured { times, seconds: time.as_secs_f64() })
}

/// One connection, with one visit after the other.
async fn visit(
    server: SocketAddr,
    mut random: Random,
    users: Arc<Zipf>,
    begin: Instant,
    end: Instant,
) -> Result<Times, Failure> {
    let mut visitor = Visitor { client: Client::connect(server).await?, begin, times: Times::new() };
    while Instant::now() < end {
        let user = users.rank(&mut random) + 1;
        let session = visitor.post("POST /session", "/session", &json!({ "user": user })).await?;
        let session = parse(&session)?["id"].clone();
        for _ in 0..2 + random.below(6) {
            let path = format!("/recommendations/{user}?n=10");
            let shown = visitor.get(RECOMMENDATIONS, &path).await?;
            if random.is(DETAILS) {
                let ids: Vec<_> = items(&shown)?.iter().map(Value::to_string).collect();
                visitor.get("GET /items", &format!("/items?ids={}", ids.join(","))).await?;
            }
            if random.is(CLICKS) {
                let items = items(&shown)?;
                let item = &items[random.below(items.len() as u32) as usize];
                let click = json!({ "user": user, "item": item, "kind": "click", "session": session });
                visitor.post("POST /events", "/events", &click).await?;
            }
        }
    }
    Ok(visitor.times)
}

struct Visitor {
    client: Client,
    begin: Instant,
    times: Times,
}

impl Visitor {
    async fn get(&mut self, route: &'static str, path: &str) -> Result<Bytes, Failure> {
        let sent = Instant::now();
        let answer = self.client.get(path).await?;
        self.note(route, sent, answer)
    }

    async fn post(&mut self, route: &'static str, path: &str, body: &Value) -> Result<Bytes, Failure> {
        let sent = Instant::now();
        let answer = self.client.post(path, body).await?;
        self.note(route, sent, answer)
    }

    fn note(
        &mut self,
        route: &'static str,
        sent: Instant,
        (status, body): (StatusCode, Bytes),
    ) -> Result<Bytes, Failure> {
        let took = sent.elapsed();
        if !status.is_success() {
            return Err(format!("{route}: {status}: {}", String::from_utf8_lossy(&body)).into());
        }
        if sent >= self.begin {
            self.times.entry(route).or_default().push(took);
        }
        Ok(body)
    }
}

fn parse(body: &Bytes) -> Result<Value, Failure> {
    Ok(serde_json::from_slice(body)?)
}

/// The numbers of the items that are shown.
fn items(body: &Bytes) -> Result<Vec<Value>, Failure> {
    let shown = parse(body)?;
    let items = shown["items"].as_array().ok_or("there are no items")?;
    match items.is_empty() {
        true => Err("nothing is recommended: there are too few items".into()),
        false => Ok(items.iter().map(|item| item["id"].clone()).collect()),
    }
}

fn print_table(with: &Measured, without: &Measured) {
    println!("\n{:<24}{:<12}{:>14}{:>14}{:>10}", "", "", "with caches", "without", "ratio");
    for route in with.times.keys().filter(|route| without.times.contains_key(*route)) {
        let (on, off) = (&with.times[route], &without.times[route]);
        for (row, (name, part)) in
            [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)].into_iter().enumerate()
        {
            let [on, off] = [on, off].map(|times| micros(times, part));
            let route = if row == 0 { *route } else { "" };
            println!("{route:<24}{name:<12}{on:>11.0} us{off:>11.0} us{:>9.1}x", off / on);
        }
        let [on, off] = [(on, with), (off, without)].map(|(times, run)| times.len() as f64 / run.seconds);
        println!("{:<24}{:<12}{on:>14.0}{off:>14.0}{:>9.1}x", "", "per second", on / off);
    }
    println!();
    for (name, part, bar) in [("p50", 0.5, P50_BAR), ("p99", 0.99, P99_BAR)] {
        let [on, off] = [with, without].map(|run| micros(&run.times[RECOMMENDATIONS], part));
        let verdict = if off / on >= bar { "reached" } else { "MISSED" };
        println!(
            "{name} of recommendations: {:.1} times lower; the bar is {bar:.0} times: {verdict}",
            off / on
        );
    }
}

/// Of times in order: so many microseconds that this part of them is not longer.
fn micros(times: &[Duration], part: f64) -> f64 {
    let rank = (times.len() as f64 * part).ceil() as usize;
    times.get(rank.max(1) - 1).map_or(f64::NAN, |time| time.as_nanos() as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let times: Vec<_> = (1..=1_000).map(Duration::from_micros).collect();
        assert_eq!([0.5, 0.99, 0.999, 1.0].map(|part| micros(&times, part)), [500.0, 990.0, 999.0, 1_000.0]);
        assert_eq!(micros(&times[..1], 0.999), 1.0);
        assert!(micros(&[], 0.5).is_nan());
    }
}
