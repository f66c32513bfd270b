//! The recommendation service as a program: see `--help`, and the README beside it.

use clap::Parser;
use recommendations::console::{say, warn};
use recommendations::load;
use recommendations::server::{Config, Failure, Server, remove_data};
use recommendations::store::Size;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// A recommendation service: larder's caches before SQLite.
#[derive(Parser)]
struct Arguments {
    /// Where to listen, on this machine only; 0 for any free port
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Where the store and the snapshots are [default: a folder beside the program]
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Users to make up for a new store [default: 20000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=5_000_000))]
    users: Option<u32>,
    /// Items to make up for a new store [default: 5000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    items: Option<u32>,
    /// Events to make up for a new store [default: 400000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=50_000_000))]
    events: Option<u32>,
    /// Measure instead of serving: simulated traffic for so many seconds, with the caches and without
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "10",
          value_parser = clap::value_parser!(u64).range(1..=600), conflicts_with_all = ["port", "no_cache", "fresh"])]
    load: Option<u64>,
    /// Compute everything from the store for each request
    #[arg(long)]
    no_cache: bool,
    /// Begin with a new store and no snapshots
    #[arg(long)]
    fresh: bool,
}

impl Arguments {
    fn config(&self) -> Result<Config, Failure> {
        let folder = match &self.data {
            Some(folder) => folder.clone(),
            None => std::env::current_exe()?.with_file_name("recommendations-data"),
        };
        let default = Size::default();
        Ok(Config {
            folder,
            port: self.port,
            size: Size {
                users: self.users.unwrap_or(default.users),
                items: self.items.unwrap_or(default.items),
                events: self.events.unwrap_or(default.events),
            },
            expects: (self.users, self.items),
            is_caching: !self.no_cache,
            save_every: Duration::from_secs(60),
            train_every: Duration::from_secs(300),
        })
    }
}

/// Serves until `stop`.
async fn serve(config: Config, stop: impl Future<Output = ()>) -> Result<(), Failure> {
    let mut stop = std::pin::pin!(stop);
    say(format_args!("data: {}", config.folder.display()));
    if !config.store().exists() {
        say("making up a shop, which takes a few seconds, and only the first time");
    }
    let caching = if config.is_caching { "with caches" } else { "WITHOUT caches" };
    let server = tokio::select! {
        biased;
        // Half a store is no matter: it is made anew.
        () = &mut stop => {
            say("stopped before it had started");
            return Ok(());
        }
        server = Server::start(config) => server?,
    };
    server.told.iter().for_each(|line| say(format_args!("  {line}")));
    let url = format!("http://{}", server.address);
    say(format_args!("listening on {url}, {caching}; try"));
    say(format_args!("  curl '{url}/recommendations/7?n=3'"));
    say(format_args!(
        "  curl {url}/events -H 'content-type: application/json' -d '{{\"user\":7,\"item\":12,\"kind\":\"buy\"}}'"
    ));
    say(format_args!("  curl {url}/metrics"));
    say(format_args!("or open {url}/ in a browser. Ctrl-C saves the caches and stops."));
    stop.await;
    say("stopping");
    say(server.stop().await?);
    Ok(())
}

/// Returns when the user or the system wants the program to stop.
async fn wait_for_stop() -> io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            stop = tokio::signal::ctrl_c() => stop,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = arguments.config()?;
    let stop = async {
        if let Err(error) = wait_for_stop().await {
            warn(format_args!("Ctrl-C will not save the caches: {error}"));
            std::future::pending::<()>().await;
        }
    };
    if let Some(seconds) = arguments.load {
        return tokio::select! {
            biased;
            () = stop => Err("stopped before the measurement was done".into()),
            done = load::compare(config, Duration::from_secs(seconds)) => done,
        };
    }
    if arguments.fresh {
        remove_data(&config.folder)?;
    }
    serve(config, stop).await
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            warn(format_args!("recommendations: no threads: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(run(arguments));
    // Blocking work that is under way, such as to fill a store, is not waited for.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            warn(format_args!("recommendations: {error}"));
            ExitCode::FAILURE
        }
    }
}
