//! What to run, from the command line.

use super::keys::{Generator, Popularity};
use larder::EvictionPolicy;
use std::path::PathBuf;

/// Keys in each thread's sequence.
const DRAWS: usize = 1 << 21;

pub(crate) struct Plan {
    pub(crate) quick: bool,
    pub(crate) policy: EvictionPolicy,
    pub(crate) threads: Vec<usize>,
    pub(crate) rounds: usize,
    /// Operations of each thread in a round before the clock starts: other subjects have emptied the caches.
    pub(crate) warm: usize,
    pub(crate) timed: usize,
    /// A file or a folder, for those who replay some.
    pub(crate) traces: Option<PathBuf>,
    /// Where to draw a plot, for those who have one.
    pub(crate) plot: Option<PathBuf>,
    only: String,
}

impl Plan {
    /// Reads the arguments, or complains and ends.
    pub(crate) fn from_arguments(threads: &[usize], usage: &str) -> Self {
        Self::parse(threads).unwrap_or_else(|complaint| {
            eprintln!("{complaint}\n{usage}");
            std::process::exit(2);
        })
    }

    fn parse(threads: &[usize]) -> Result<Self, String> {
        let mut arguments = std::env::args().skip(1);
        let (mut benched, mut quick, mut rounds) = (false, false, None);
        let (mut traces, mut plot) = (None, None);
        let (mut only, mut policy, mut threads) =
            (String::new(), EvictionPolicy::default(), threads.to_vec());
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} wants a value"));
            match argument.as_str() {
                "--bench" => benched = true,
                "--quick" | "--test" => quick = true,
                "--only" => only = value()?,
                "--policy" => policy = value()?.parse().map_err(|error| format!("{error}"))?,
                "--threads" => threads = numbers(&value()?)?,
                "--rounds" => rounds = Some(numbers(&value()?)?[0]),
                "--plot" => plot = Some(PathBuf::from(value()?)),
                "--traces" => traces = Some(PathBuf::from(value()?)),
                _ => return Err(format!("unknown argument {argument:?}")),
            }
        }
        // As criterion does it: `cargo test --all-targets` runs benches, too, but has no time.
        quick |= !benched;
        let (usual_rounds, warm, timed) = if quick { (3, 20_000, 50_000) } else { (15, 100_000, 250_000) };
        Ok(Self {
            quick,
            policy,
            threads,
            rounds: rounds.unwrap_or(usual_rounds),
            warm,
            timed,
            traces,
            plot,
            only,
        })
    }

    pub(crate) fn wants(&self, part: &str) -> bool {
        part.contains(&self.only)
    }

    /// Behind figures that must not be taken for such.
    pub(crate) fn caveat(&self) -> &'static str {
        if self.quick { " (a smoke run: its figures say nothing)" } else { "" }
    }

    pub(crate) fn most_threads(&self) -> usize {
        self.threads.iter().copied().max().unwrap_or(1)
    }

    /// A sequence for each thread.
    pub(crate) fn draws(&self, popularity: Popularity, keys: u32) -> Vec<Vec<u32>> {
        let generator = Generator::new(popularity, keys);
        (0..self.most_threads()).map(|thread| generator.draw(DRAWS, 1 + thread as u64)).collect()
    }
}

fn numbers(list: &str) -> Result<Vec<usize>, String> {
    let number = |text: &str| text.parse().ok().filter(|&number| number > 0);
    list.split(',').map(|text| number(text).ok_or_else(|| format!("{text:?} is no number above 0"))).collect()
}
