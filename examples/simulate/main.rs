//! A trace simulator: how many requests each of larder's eviction policies answers from the cache, how many quick_cache and
//! moka do, and how many Belady's clairvoyant optimum would.
//!
//! ```text
//! cargo run --release --example simulate                                    # made-up workloads
//! cargo run --release --example simulate -- traces/ --plot plots/           # all traces in a folder, with plots
//! cargo run --release --example simulate -- OLTP.lis --only lru,s3_fifo --capacities 1000,4000
//! cargo run --release --example simulate -- requests.csv --format csv --column 2   # the key is in the second column
//! cargo run --release --example simulate -- --field traces/field.tsv        # beside the figures of other caches
//! cargo run --release --example simulate -- --field traces/field.tsv --markdown --seeds 3 --segments auto
//! cargo run --release --example simulate -- traces/ --in-turn --capacities 1000   # all traces in one cache
//! ```
//!
//! It reads little-endian `u64`s, libCacheSim's oracleGeneral and CSV, Twitter's cluster traces, the sets of ARC and LIRS,
//! any column of a CSV file, and text with a key on each line; all of them also compressed by zstd, gzip or xz.
//!
//! `--help` tells the rest. Something wrong with an input is reported with its place; the other inputs are run all the
//! same, and the exit code is 2. Content that does not look like its format, and files of a folder that are skipped, are
//! told on stderr.

mod args;
mod belady;
mod contender;
mod fault;
mod field;
mod input;
mod markdown;
mod plot;
mod random;
mod replay;
mod report;
mod trace;
mod workload;
mod zstd;

use args::Args;
use fault::Fault;
use field::Field;
use indicatif::{ProgressBar, ProgressStyle};
use replay::{Contest, Ratios};
use report::Duel;
use std::collections::HashSet;
use std::error::Error;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use trace::Trace;

/// Ends the program: nothing more can be done.
type Fatal = Box<dyn Error>;

fn main() -> ExitCode {
    let mut session = Session::new(Args::read());
    match session.run() {
        Ok(()) if session.faults == 0 => ExitCode::SUCCESS,
        Ok(()) => ExitCode::from(2),
        // Whoever read the output has seen enough: `simulate | head`.
        Err(error) if is_closed_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&*error);
            ExitCode::from(2)
        }
    }
}

fn is_closed_pipe(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Unlike `eprintln!`, this does not panic when nobody listens.
fn complain(error: &dyn Error) {
    let _ = writeln!(io::stderr(), "simulate: {error}");
}

/// Tells something about an input that is no fault.
fn note(path: &Path, text: &str) {
    let _ = writeln!(io::stderr(), "simulate: {}: note: {text}", path.display());
}

/// Draws on stderr, and nothing when that is no terminal.
fn progress(name: &str, requests: u64) -> Result<ProgressBar, Fatal> {
    let progress = ProgressBar::new(requests).with_message(name.to_owned());
    progress.set_style(ProgressStyle::with_template(
        "{msg:16} [{wide_bar}] {human_pos} of {human_len} requests, {eta} left",
    )?);
    Ok(progress)
}

/// One run of the program.
struct Session {
    args: Args,
    contest: Contest,
    out: io::Stdout,
    /// Of each trace, for a table of all in the end.
    rows: Vec<(String, Ratios)>,
    /// Plots written so far: two traces of one name must not share one.
    plots: HashSet<PathBuf>,
    faults: usize,
}

impl Session {
    fn new(args: Args) -> Self {
        let contest = args.contest();
        Self { args, contest, out: io::stdout(), rows: Vec::new(), plots: HashSet::new(), faults: 0 }
    }

    fn run(&mut self) -> Result<(), Fatal> {
        if let Some(folder) = &self.args.plot {
            std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        match self.args.field.clone() {
            Some(table) => self.run_field(&table),
            None if self.args.traces.is_empty() => self.run_workloads(),
            None if self.args.in_turn => self.run_in_turn(),
            None => self.run_files(),
        }?;
        if !self.rows.is_empty() {
            markdown::traces(&mut self.out, &self.contest, &self.rows)?;
        }
        Ok(())
    }

    fn run_workloads(&mut self) -> Result<(), Fatal> {
        for workload in workload::all() {
            let trace = match self.args.limit() {
                Some(limit) => workload.trace.cut(limit),
                None => workload.trace,
            };
            let capacities = self.args.capacities_or(|| workload.capacities);
            self.show(&trace, &capacities)?;
        }
        Ok(())
    }

    fn run_files(&mut self) -> Result<(), Fatal> {
        for path in self.files(&self.args.traces.clone()) {
            if let Some(trace) = self.read(&path) {
                let capacities = self.args.capacities_or(|| args::spread(trace.distinct()));
                self.show(&trace, &capacities)?;
            }
        }
        Ok(())
    }

    fn run_in_turn(&mut self) -> Result<(), Fatal> {
        let files = self.files(&self.args.traces.clone());
        let traces: Vec<Trace> = files.iter().filter_map(|path| self.read(path)).collect();
        let capacities = self.args.capacities_or(Vec::new);
        let progress = progress("in turn", self.contest.work_in_turn(&traces, &capacities))?;
        let relays = self.contest.run_in_turn(&traces, &capacities, &progress)?;
        progress.finish_and_clear();
        let show = if self.args.markdown { markdown::in_turn } else { report::in_turn };
        show(&mut self.out, &traces, &self.contest, &relays)?;
        Ok(())
    }

    fn show(&mut self, trace: &Trace, capacities: &[u64]) -> Result<(), Fatal> {
        let rows = self.replay(trace, capacities)?;
        self.plot(trace, &rows)?;
        if self.args.markdown {
            self.rows.extend(rows.into_iter().map(|row| (trace.name().to_owned(), row)));
        } else {
            report::trace(&mut self.out, trace, &self.contest, &rows)?;
        }
        Ok(())
    }

    fn run_field(&mut self, table: &Path) -> Result<(), Fatal> {
        let field = Field::read(table)?;
        let mut places = self.args.traces.clone();
        if places.is_empty() {
            places.push(
                table.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new(".")).to_owned(),
            );
        }
        let files = self.files(&places);
        let mut duels = Vec::new();
        for name in field.traces() {
            let Some(path) = files.iter().find(|path| trace::name_of(path) == name) else { continue };
            let Some(trace) = self.read(path) else { continue };
            let rows = self.replay(&trace, &field.capacities(name))?;
            self.plot(&trace, &rows)?;
            let theirs = field.rows.iter().filter(|row| row.trace == name);
            duels.extend(theirs.zip(rows).map(|(theirs, ours)| Duel { theirs, ours }));
        }
        if duels.is_empty() {
            return Err(format!("{}: none of its traces could be read", table.display()).into());
        }
        if self.args.markdown {
            markdown::field(&mut self.out, &self.contest, &field, &duels)?;
            return Ok(());
        }
        report::field(&mut self.out, &self.contest, &duels)?;
        report::optimum(&mut self.out, &field, &duels)?;
        Ok(())
    }

    /// Finds the trace files that the paths stand for, without those that cannot be found.
    fn files(&mut self, paths: &[PathBuf]) -> Vec<PathBuf> {
        let mut traces = Vec::new();
        for path in paths {
            let Some(found) = self.or_complain(trace::files(path)) else { continue };
            if !found.skipped.is_empty() {
                let names: Vec<_> = found.skipped.iter().filter_map(|path| path.file_name()).collect();
                let names = names.join(OsStr::new(", ")).display().to_string();
                note(path, &format!("skipped {names}: no {}", trace::wanted()));
            }
            traces.extend(found.traces);
        }
        traces
    }

    fn read(&mut self, path: &Path) -> Option<Trace> {
        let trace = Trace::read(path, self.args.format(), self.args.limit());
        let trace = self.or_complain(trace)?;
        for text in trace.notes() {
            note(path, text);
        }
        Some(trace)
    }

    fn or_complain<T>(&mut self, result: Result<T, Fault>) -> Option<T> {
        result.inspect_err(|fault| complain(fault)).inspect_err(|_| self.faults += 1).ok()
    }

    fn replay(&self, trace: &Trace, capacities: &[u64]) -> Result<Vec<Ratios>, Fatal> {
        let progress = progress(trace.name(), self.contest.work(trace, capacities))?;
        let rows = self.contest.run(trace, capacities, &progress)?;
        progress.finish_and_clear();
        Ok(rows)
    }

    fn plot(&mut self, trace: &Trace, rows: &[Ratios]) -> Result<(), Fatal> {
        let Some(folder) = &self.args.plot else { return Ok(()) };
        let name = trace.name();
        let names = std::iter::once(format!("{name}.svg")).chain((2..).map(|n| format!("{name}-{n}.svg")));
        let mut paths = names.map(|name| folder.join(name));
        let path = paths.find(|path| !self.plots.contains(path)).expect("endless");
        plot::draw(&path, trace, &self.contest, rows)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        self.plots.insert(path);
        Ok(())
    }
}
