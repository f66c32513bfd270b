//! The page in a real browser: headless Chromium, where there is one.

mod common;

use common::Scratch;
use recommendations::client::Client;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

/// Without one the tests are left out; or fail, where the environment says `REQUIRE_BROWSER=1`, as it should where the whole
/// project is checked.
fn browser() -> Option<&'static str> {
    let is_there = |name: &&str| Command::new(name).arg("--version").output().is_ok();
    let found = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(is_there);
    if found.is_none() {
        let missing = "there is no Chromium: Debian has it as the package `chromium`";
        assert!(std::env::var_os("REQUIRE_BROWSER").is_none_or(|value| value != "1"), "{missing}");
        // Past what the test harness captures: a page that was not looked at must not pass for one that was.
        let _ = writeln!(std::io::stderr(), "SKIPPED a test of the page: {missing}");
    }
    found
}

/// Opens the page and lets its time run ahead: so many seconds, which take less.
fn open(browser: &str, scratch: &Path, url: &str, seconds: u32, then: &[&str]) -> Output {
    let mut command = Command::new(browser);
    command.args(["--headless", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]);
    // As root, as in containers, Chromium refuses to run with its sandbox; the page is our own.
    command.args(["--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,1900"]);
    command.arg(format!("--user-data-dir={}", scratch.join("browser").display()));
    command.arg(format!("--virtual-time-budget={}", seconds * 1_000));
    command.args(then).arg(url).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_plots_with_data() {
    let Some(browser) = browser() else { return };
    let scratch = Scratch::new("page");
    let server = scratch.start().await;
    let is_done = Arc::new(AtomicBool::new(false));
    let traffic = tokio::spawn({
        let (address, is_done) = (server.address, Arc::clone(&is_done));
        async move {
            let mut client = Client::connect(address).await.unwrap();
            // New ones for as long as the page is open, so that there are loads.
            for request in 0_u32.. {
                if is_done.load(SeqCst) {
                    break;
                }
                let (user, shelf) = (request % 400 + 1, request / 400 % 12);
                client.get(&format!("/recommendations/{user}?shelf={shelf}")).await.unwrap();
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    });
    let url = format!("http://{}/", server.address);
    let folder = scratch.path().to_owned();
    let image: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page.png");
    let shot = format!("--screenshot={}", image.display());
    let (dump, shot) = tokio::task::spawn_blocking(move || {
        let dump = open(browser, &folder, &url, 8, &["--dump-dom"]);
        (dump, open(browser, &folder, &url, 20, &[&shot]))
    })
    .await
    .unwrap();
    is_done.store(true, SeqCst);
    traffic.await.unwrap();
    server.stop().await.unwrap();

    let (page, log) = (String::from_utf8_lossy(&dump.stdout), String::from_utf8_lossy(&dump.stderr));
    assert!(!log.contains("CONSOLE"), "the page has complained: {log}");
    assert!(page.contains("400 users, 240 items, model 1"), "the heading is filled: {page}");
    for (plot, line) in [
        ("hits", "results"),
        ("latency", "p99"),
        ("requests", "/recommendations/{user}"),
        ("loads", "results"),
        ("evictions", "results"),
        ("full", "items"),
    ] {
        let points = points(&page, plot, line);
        assert!(points >= 2, "{plot}, {line}: {points} points: {page}");
    }
    assert!(page.contains("<td class=\"left\">neighbours"), "what the caches hold is shown: {page}");
    assert!(image.metadata().unwrap().len() > 10_000, "{}", String::from_utf8_lossy(&shot.stderr));
    println!("screenshot: {}", image.display());
}

/// A service that nobody has asked yet, and the first second of its page.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_opens_with_figures() {
    let Some(browser) = browser() else { return };
    let scratch = Scratch::new("opens");
    let server = scratch.start().await;
    let (url, folder) = (format!("http://{}/", server.address), scratch.path().to_owned());
    let dump = tokio::task::spawn_blocking(move || open(browser, &folder, &url, 1, &["--dump-dom"]));
    let page = String::from_utf8(dump.await.unwrap().stdout).unwrap();
    let events = server.service.store.last_event().await.unwrap();
    server.stop().await.unwrap();
    for tile in ["hits", "p50", "p99", "requests", "loads"] {
        let shown =
            page.split(&format!("id=\"tile-{tile}\">")).nth(1).and_then(|rest| rest.split('<').next());
        assert!(
            shown.is_some_and(|shown| shown.starts_with(|first: char| first.is_ascii_digit())),
            "{tile}: {page}"
        );
    }
    for (plot, line) in [("hits", "results"), ("latency", "p99"), ("loads", "results"), ("full", "items")] {
        assert!(points(&page, plot, line) >= 1, "{plot}, {line}: {page}");
    }
    assert!(page.contains("99th percentile latency"), "{page}");
    assert_eq!(events, i64::from(common::SIZE.events), "a page that is opened records nothing");
}

/// The service goes while its page is open.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_tells_that_the_service_is_gone() {
    let Some(browser) = browser() else { return };
    let scratch = Scratch::new("gone");
    let server = scratch.start().await;
    let (url, folder) = (format!("http://{}/", server.address), scratch.path().to_owned());
    // Its time runs ahead only while the service answers or is gone: so it ends after that.
    let dump = tokio::task::spawn_blocking(move || open(browser, &folder, &url, 120, &["--dump-dom"]));
    let mut client = Client::connect(server.address).await.unwrap();
    loop {
        let (_, text) = client.get("/metrics").await.unwrap();
        let text = String::from_utf8_lossy(&text).into_owned();
        let polls = text.lines().find(|line| line.contains("seconds_count{route=\"/stats.json\""));
        if polls.is_some_and(|line| !line.ends_with(" 1")) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.stop().await.unwrap();
    let page = String::from_utf8(dump.await.unwrap().stdout).unwrap();
    assert!(page.contains("The service has not answered for "), "{page}");
    assert!(page.contains("class=\"gone\""), "what is out of date is shown as such: {page}");
}

/// How many points a line of a plot has.
fn points(page: &str, plot: &str, line: &str) -> u32 {
    let plot = page.split(&format!("id=\"{plot}\"")).nth(1).and_then(|rest| rest.split("</svg>").next());
    let line = plot.and_then(|plot| plot.split(&format!("data-line=\"{line}\" data-points=\"")).nth(1));
    line.and_then(|rest| rest.split('"').next()?.parse().ok()).unwrap_or(0)
}
