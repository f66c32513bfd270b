//! What `--load` has measured, as tables.

use std::collections::BTreeMap;
use std::time::Duration;

pub const RECOMMENDATIONS: &str = "GET /recommendations";
const ALL: &str = "all requests";

/// What the caches are to be good for.
const P50_BAR: f64 = 10.0;
const P99_BAR: f64 = 3.0;
const PARTS: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// What became of the requests of one kind.
#[derive(Clone, Default)]
struct Route {
    /// How long those took that succeeded.
    micros: Vec<f32>,
    errors: u64,
}

/// What was measured in so many seconds, by route.
#[derive(Default)]
pub struct Run {
    routes: BTreeMap<&'static str, Route>,
    seconds: f64,
}

impl Run {
    pub fn of(time: Duration) -> Self {
        Self { routes: BTreeMap::new(), seconds: time.as_secs_f64() }
    }

    /// A request that took so long, or has failed.
    pub fn note(&mut self, route: &'static str, took: Option<Duration>) {
        let route = self.routes.entry(route).or_default();
        match took {
            Some(took) => route.micros.push(took.as_secs_f32() * 1e6),
            None => route.errors += 1,
        }
    }

    /// Takes in what was measured beside it.
    pub fn add(&mut self, other: Self) {
        for (route, some) in other.routes {
            let all = self.routes.entry(route).or_default();
            all.micros.extend(some.micros);
            all.errors += some.errors;
        }
    }

    /// Requests in a second.
    pub fn rate(&self) -> f64 {
        self.routes.values().map(|route| route.micros.len()).sum::<usize>() as f64 / self.seconds
    }

    /// Each route, and all of them, with their times in order.
    fn in_order(&self) -> BTreeMap<&'static str, Route> {
        let mut all = Route::default();
        let mut routes = self.routes.clone();
        for route in self.routes.values() {
            all.micros.extend(&route.micros);
            all.errors += route.errors;
        }
        routes.insert(ALL, all);
        routes.values_mut().for_each(|route| route.micros.sort_unstable_by(f32::total_cmp));
        routes
    }
}

/// Prints both, beside each other, and whether the bars are reached.
pub fn print(with: &Run, without: &Run) {
    let (on, off) = (with.in_order(), without.in_order());
    let heads: String = PARTS.iter().map(|(name, _)| format!("{name:>10}")).collect();
    println!("{:<22}{:<11}{:>9}{:>8}{:>9}{heads}", "microseconds", "caches", "requests", "errors", "per s");
    for route in on.keys().filter(|route| off.contains_key(*route)) {
        let (on, off) = (&on[route], &off[route]);
        println!("{}", row(route, "on", on, with.seconds));
        println!("{}", row("", "off", off, without.seconds));
        let ratios: String =
            PARTS.iter().map(|&(_, part)| format!("{:>9.1}x", ratio(on, off, part))).collect();
        println!("{:<22}{:<37}{ratios}", "", "off / on");
    }
    let (Some(on), Some(off)) = (on.get(RECOMMENDATIONS), off.get(RECOMMENDATIONS)) else { return };
    for (name, part, bar) in [("p50", 0.5, P50_BAR), ("p99", 0.99, P99_BAR)] {
        let ratio = ratio(on, off, part);
        let verdict = if ratio >= bar { "reached" } else { "MISSED" };
        println!("{name} of recommendations: {ratio:.1} times lower; the bar is {bar:.0} times: {verdict}");
    }
}

fn row(name: &str, caches: &str, route: &Route, seconds: f64) -> String {
    let requests = route.micros.len();
    let times: String =
        PARTS.iter().map(|&(_, part)| format!("{:>10.0}", percentile(&route.micros, part))).collect();
    let rate = requests as f64 / seconds;
    format!("{name:<22}{caches:<11}{requests:>9}{:>8}{rate:>9.0}{times}", route.errors)
}

fn ratio(on: &Route, off: &Route, part: f64) -> f64 {
    f64::from(percentile(&off.micros, part) / percentile(&on.micros, part))
}

/// Of times in order: so much that this part of them is not longer.
fn percentile(times: &[f32], part: f64) -> f32 {
    let rank = (times.len() as f64 * part).ceil() as usize;
    times.get(rank.max(1) - 1).copied().unwrap_or(f32::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let times: Vec<_> = (1..=1_000_u16).map(f32::from).collect();
        assert_eq!(
            [0.5, 0.99, 0.999, 1.0].map(|part| percentile(&times, part)),
            [500.0, 990.0, 999.0, 1_000.0]
        );
        assert_eq!(percentile(&times[..1], 0.999), 1.0);
        assert!(percentile(&[], 0.5).is_nan());
    }

    #[test]
    fn errors_are_no_times() {
        let mut run = Run::of(Duration::from_secs(2));
        run.note("GET /", Some(Duration::from_millis(1)));
        let mut other = Run::default();
        other.note("GET /", None);
        other.note("POST /", Some(Duration::from_millis(3)));
        run.add(other);
        assert_eq!(run.rate(), 1.0);
        let all = &run.in_order()[ALL];
        assert_eq!((all.errors, all.micros.len()), (1, 2));
        assert_eq!(row("GET /", "on", &run.in_order()["GET /"], 2.0).split_whitespace().nth(4), Some("1"));
    }
}
