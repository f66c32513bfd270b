//! The recommendation service as a program: see `--help`, and the README beside it.

use clap::Parser;
use recommendations::load;
use recommendations::server::{Config, Failure, Server, remove_data};
use recommendations::store::Size;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// A recommendation service: larder's caches before SQLite.
#[derive(Parser)]
struct Arguments {
    /// Where to listen, on this machine only; 0 for any free port
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Where the store and the snapshots are [default: a folder beside the program]
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Users to make up
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=5_000_000))]
    users: u32,
    /// Items to make up
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    items: u32,
    /// Events to make up
    #[arg(long, default_value_t = 400_000, value_parser = clap::value_parser!(u32).range(0..=50_000_000))]
    events: u32,
    /// Measure instead of serving: simulated traffic for so many seconds, with the caches and without
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "10",
          value_parser = clap::value_parser!(u64).range(1..=3_600))]
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
        Ok(Config {
            folder,
            port: self.port,
            size: Size { users: self.users, items: self.items, events: self.events },
            is_caching: !self.no_cache,
            save_every: Duration::from_secs(60),
            train_every: Duration::from_secs(300),
        })
    }
}

async fn serve(config: Config) -> Result<(), Failure> {
    // Before anything else: who stops the service while it starts does not want it killed either.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    println!("data: {}", config.folder.display());
    let caching = config.is_caching;
    let server = Server::start(config).await?;
    server.told.iter().for_each(|line| println!("  {line}"));
    let url = format!("http://{}", server.address);
    println!("listening on {url}, {}; try", if caching { "with caches" } else { "WITHOUT caches" });
    println!("  curl '{url}/recommendations/7?n=3'");
    println!(
        "  curl {url}/events -H 'content-type: application/json' -d '{{\"user\":7,\"item\":12,\"kind\":\"buy\"}}'"
    );
    println!("  curl {url}/metrics");
    println!("or open {url}/ in a browser. Ctrl-C stops it.");
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    println!("stopping");
    println!("{}", server.stop().await?);
    Ok(())
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = arguments.config()?;
    if let Some(seconds) = arguments.load {
        return load::compare(config, Duration::from_secs(seconds)).await;
    }
    if arguments.fresh {
        remove_data(&config.folder)?;
    }
    serve(config).await
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("recommendations: {error}");
            ExitCode::FAILURE
        }
    }
}
