//! The service is stopped, or killed, and started again.

mod common;

use common::{SIZE, Scratch, cache, get, post};
use recommendations::client::Client;
use recommendations::domain::Kind;
use recommendations::server::{Config, PATIENCE, Server, remove_data};
use recommendations::snapshots::Snapshots;
use recommendations::store::{NewEvent, Size};
use serde_json::json;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_restart_is_warm() {
    let scratch = Scratch::new("warm");
    let mut hits = Vec::new();
    let mut session = String::new();
    for run in 0..2 {
        let server = scratch.start().await;
        let mut client = Client::connect(server.address).await.unwrap();
        for user in 1..=100 {
            get(&mut client, &format!("/recommendations/{user}")).await;
        }
        hits.push(cache(&mut client, "results").await["hits"].as_u64().unwrap());
        if run == 0 {
            let begun = post(&mut client, "/session", json!({ "user": 9 })).await;
            session = begun["id"].as_str().unwrap().to_owned();
        } else {
            assert_eq!(get(&mut client, &format!("/session/{session}")).await["user"], 9);
            assert_eq!(cache(&mut client, "models").await["misses"], 0);
        }
        server.stop().await.unwrap();
    }
    assert_eq!(hits, [0, 100]);
}

#[tokio::test]
async fn what_happened_since_the_snapshot_counts() {
    let scratch = Scratch::new("since");
    let server = scratch.start().await;
    let mut client = Client::connect(server.address).await.unwrap();
    get(&mut client, "/recommendations/3").await;
    get(&mut client, "/recommendations/4").await;
    server.stop().await.unwrap();
    // This one writes to the store only, as one does that is killed before its next snapshot.
    let server = scratch.start_without_caches().await;
    let mut client = Client::connect(server.address).await.unwrap();
    let event = post(&mut client, "/events", json!({ "user": 3, "item": 8, "kind": "buy" })).await;
    server.stop().await.unwrap();

    let server = scratch.start().await;
    assert!(server.told.iter().any(|line| line.contains("forgot 1 users")), "{:?}", server.told);
    let mut client = Client::connect(server.address).await.unwrap();
    assert_eq!(get(&mut client, "/recommendations/3").await["last_event"], event["id"]);
    get(&mut client, "/recommendations/4").await;
    let results = cache(&mut client, "results").await;
    assert_eq!((&results["misses"], &results["hits"]), (&json!(1), &json!(1)), "only user 3 is forgotten");
    server.stop().await.unwrap();
}

/// The store has an event that the caches were not told of yet, a snapshot is saved, and the process is killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_waits_for_events_that_are_on_their_way() {
    let scratch = Scratch::new("on-their-way");
    let folder = scratch.path().join("snapshots");
    let server = scratch.start().await;
    let mut client = Client::connect(server.address).await.unwrap();
    get(&mut client, "/recommendations/3").await;
    let (store, caches) = (server.service.store.clone(), server.service.caches.clone());
    let (go_on, told) = std::sync::mpsc::channel();
    let before = store.last_event().await.unwrap();
    let recording = tokio::spawn({
        let (store, caches) = (store.clone(), caches.clone());
        async move {
            let then = move |event| {
                told.recv().unwrap();
                caches.user_has_acted(3, event);
            };
            store.record(NewEvent { user: 3, item: 8, kind: Kind::Buy }, then).await
        }
    });
    while store.last_event().await.unwrap() == before {}
    let saving = tokio::spawn({
        let (snapshots, store) = (Snapshots::new(folder.clone()).unwrap(), store.clone());
        async move { snapshots.save(&caches, &store).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    go_on.send(()).unwrap();
    let event = recording.await.unwrap().unwrap();
    saving.await.unwrap().unwrap();
    let saved: Vec<_> = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    let saved: Vec<_> = saved.into_iter().map(|file| (fs::read(&file).unwrap(), file)).collect();
    server.stop().await.unwrap();
    // As if it had not been stopped in order.
    saved.into_iter().for_each(|(bytes, file)| fs::write(file, bytes).unwrap());

    let server = scratch.start().await;
    let mut client = Client::connect(server.address).await.unwrap();
    assert_eq!(get(&mut client, "/recommendations/3").await["last_event"], event.id);
    server.stop().await.unwrap();
}

/// Its path is named, all others are saved, and what an older save has left of it is not taken for a part of this one.
#[tokio::test]
async fn a_cache_that_cannot_be_saved_does_not_keep_others_from_it() {
    let scratch = Scratch::new("unsaved");
    let folder = scratch.path().join("snapshots");
    let (file, older) = (folder.join("results.larder"), scratch.path().join("older"));
    let server = scratch.start().await;
    let mut client = Client::connect(server.address).await.unwrap();
    get(&mut client, "/recommendations/3").await;
    server.stop().await.unwrap();
    let server = scratch.start().await;
    let mut client = Client::connect(server.address).await.unwrap();
    post(&mut client, "/events", json!({ "user": 3, "item": 8, "kind": "buy" })).await;
    fs::rename(&file, &older).unwrap();
    fs::create_dir(&file).unwrap();
    let refused = server.stop().await.unwrap_err().to_string();
    assert!(refused.contains(file.to_str().unwrap()) && refused.contains("no regular file"), "{refused}");
    assert!(!refused.contains("users.larder"), "{refused}");
    fs::remove_dir(&file).unwrap();
    fs::rename(&older, &file).unwrap();

    let server = scratch.start().await;
    let cold: Vec<_> = server.told.iter().filter(|line| line.contains("cold")).collect();
    assert_eq!(cold, ["results: cold, it could not be saved with the others"], "{:?}", server.told);
    server.stop().await.unwrap();
}

/// As after a kill between a training and the next snapshot.
#[tokio::test]
async fn a_model_older_than_the_store_is_forgotten() {
    let scratch = Scratch::new("older-model");
    let server = scratch.start().await;
    let mut client = Client::connect(server.address).await.unwrap();
    assert_eq!(get(&mut client, "/recommendations/3").await["model"], 1);
    server.stop().await.unwrap();
    let server = scratch.start_without_caches().await;
    assert_eq!(server.service.retrain().await.unwrap(), 2);
    server.stop().await.unwrap();
    let server = scratch.start().await;
    assert!(server.told.iter().any(|line| line.starts_with("forgot the model")), "{:?}", server.told);
    let mut client = Client::connect(server.address).await.unwrap();
    assert_eq!(get(&mut client, "/recommendations/4").await["model"], 2);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn what_others_have_put_there_stays() {
    let scratch = Scratch::new("others");
    scratch.start().await.stop().await.unwrap();
    let (theirs, leftover) =
        (scratch.path().join("snapshots/holiday.jpg"), scratch.path().join("snapshots/.larder-1-0.tmp"));
    fs::write(&theirs, "").unwrap();
    fs::write(&leftover, "").unwrap();
    scratch.start().await.stop().await.unwrap();
    assert!(!leftover.exists(), "what a killed process left goes");
    remove_data(scratch.path()).unwrap();
    let left: Vec<_> = fs::read_dir(scratch.path().join("snapshots")).unwrap().collect();
    assert!(theirs.exists() && left.len() == 1, "{left:?}");
}

#[tokio::test]
async fn a_damaged_store_is_named() {
    let scratch = Scratch::new("damaged");
    scratch.start().await.stop().await.unwrap();
    let file = scratch.config().store();
    fs::write(&file, "no database").unwrap();
    let refused = Server::start(scratch.config()).await.err().expect("refused").to_string();
    assert!(refused.contains("shop.sqlite: ") && refused.contains("--fresh"), "{refused}");
}

/// Somebody has removed the store's file, and not what belongs to it.
#[tokio::test]
async fn the_log_of_a_store_that_is_gone_is_no_part_of_a_new_one() {
    let scratch = Scratch::new("log");
    let (file, log) = (scratch.config().store(), scratch.config().store().with_extension("sqlite-wal"));
    let server = scratch.start().await;
    let mut client = Client::connect(server.address).await.unwrap();
    post(&mut client, "/events", json!({ "user": 3, "item": 8, "kind": "buy" })).await;
    let left = fs::read(&log).unwrap();
    server.stop().await.unwrap();
    fs::remove_file(&file).unwrap();
    fs::write(&log, left).unwrap();
    let server = scratch.start().await;
    assert_eq!(server.service.store.last_event().await.unwrap(), i64::from(SIZE.events));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn wrong_snapshots_are_named_and_left() {
    let scratch = Scratch::new("snapshots");
    let snapshots = scratch.path().join("snapshots");
    scratch.start().await.stop().await.unwrap();
    let mut bytes = fs::read(snapshots.join("tastes.larder")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(snapshots.join("tastes.larder"), bytes).unwrap();
    fs::copy(snapshots.join("users.larder"), snapshots.join("items.larder")).unwrap();
    fs::write(snapshots.join("results.larder"), "no snapshot").unwrap();
    fs::remove_file(snapshots.join("models.larder")).unwrap();
    let told = restart(&scratch).await;
    let line = |name: &str| told.iter().find(|line| line.starts_with(name)).unwrap();
    assert!(line("tastes: cold").contains("damaged"), "{told:?}");
    assert!(line("items: cold").contains("users, version 1"), "{told:?}");
    assert!(line("results: cold").contains("this is no snapshot"), "{told:?}");
    line("models: cold");
    line("behaviour: warm");

    fs::write(snapshots.join("saved.json"), "{").unwrap();
    assert!(restart(&scratch).await[0].starts_with("cold start: the snapshot cannot be used"));
    // Of a store that is no more.
    for file in ["shop.sqlite", "shop.sqlite-wal", "shop.sqlite-shm"] {
        let _ = fs::remove_file(scratch.path().join(file));
    }
    assert!(restart(&scratch).await[1].contains("belongs to another store"));
}

async fn restart(scratch: &Scratch) -> Vec<String> {
    let server = scratch.start().await;
    let told = server.told.clone();
    let mut client = Client::connect(server.address).await.unwrap();
    get(&mut client, "/recommendations/1").await;
    server.stop().await.unwrap();
    told
}

/// A request of which half has come is not waited for: neither for the rest of its head nor for that of its body.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_request_does_not_keep_the_service_from_stopping() {
    let scratch = Scratch::new("half");
    let server = scratch.start().await;
    let halves = [
        "GET /health HTTP/1.1\r\nHost: x\r\n",
        "POST /session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{",
    ];
    let _open: Vec<_> = halves
        .iter()
        .map(|half| {
            let mut stream = TcpStream::connect(server.address).unwrap();
            stream.write_all(half.as_bytes()).unwrap();
            stream
        })
        .collect();
    // They have come when this one, which came later, is answered.
    get(&mut Client::connect(server.address).await.unwrap(), "/health").await;
    let begun = Instant::now();
    server.stop().await.unwrap();
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn two_at_a_time_are_refused() {
    let scratch = Scratch::new("two");
    let server = scratch.start().await;
    let refused = Server::start(scratch.config()).await.err().expect("refused");
    assert!(refused.to_string().contains("another process is using it"), "{refused}");
    assert!(remove_data(scratch.path()).is_err());
    server.stop().await.unwrap();
    remove_data(scratch.path()).unwrap();
    assert!(!scratch.path().join("shop.sqlite").exists());
}

/// A store keeps the size that it was made with.
#[tokio::test]
async fn a_restart_need_not_repeat_how_much_there_is() {
    let scratch = Scratch::new("size");
    scratch.start().await.stop().await.unwrap();
    let other = Size { users: 7, items: 8, events: 9 };
    let server = Server::start(Config { size: other, ..scratch.config() }).await.unwrap();
    assert_eq!((server.service.shape.users, server.service.shape.items), (SIZE.users, SIZE.items));
    server.stop().await.unwrap();
    for (expects, fits) in [
        ((Some(SIZE.users), None), true),
        ((Some(SIZE.users), Some(SIZE.items)), true),
        ((Some(7), None), false),
        ((None, Some(8)), false),
    ] {
        let started = Server::start(Config { expects, ..scratch.config() }).await;
        assert_eq!(started.is_ok(), fits, "{expects:?}");
        match started {
            Ok(server) => _ = server.stop().await.unwrap(),
            Err(refused) => assert!(refused.to_string().contains("has 400 users and 240 items"), "{refused}"),
        }
    }
}

/// The program itself.
struct Process {
    child: Child,
    output: BufReader<ChildStdout>,
    /// What it said until it was listening.
    told: Vec<String>,
    address: SocketAddr,
}

impl Process {
    fn start(scratch: &Scratch) -> Self {
        let mut program = Command::new(env!("CARGO_BIN_EXE_recommendations"));
        let size = [("--users", SIZE.users), ("--items", SIZE.items), ("--events", SIZE.events)];
        size.iter().for_each(|(option, number)| {
            program.args([option, number.to_string().as_str()]);
        });
        program.args(["--port", "0", "--data"]).arg(scratch.path()).stdout(Stdio::piped());
        let mut child = program.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (mut told, mut line) = (Vec::new(), String::new());
        while !line.starts_with("listening on http://") {
            line.clear();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "it has ended: {told:?}");
            told.push(line.clone());
        }
        let address = line["listening on http://".len()..].split(',').next().unwrap().parse().unwrap();
        Self { child, output, told, address }
    }

    fn said(&self, part: &str) -> bool {
        self.told.iter().any(|line| line.contains(part))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_starts_again() {
    let scratch = Scratch::new("killed");
    let mut last = json!(null);
    for run in 0..3 {
        let mut process = Process::start(&scratch);
        assert!(process.said("cold start: there is no snapshot"), "{:?}", process.told);
        let mut client = Client::connect(process.address).await.unwrap();
        if run > 0 {
            assert_eq!(get(&mut client, "/recommendations/3").await["last_event"], last);
        }
        for item in 1..20 {
            last =
                post(&mut client, "/events", json!({ "user": 3, "item": item, "kind": "view" })).await["id"]
                    .clone();
        }
        process.child.kill().unwrap();
        process.child.wait().unwrap();
    }
    let expected = i64::from(SIZE.events) + 3 * 19;
    assert_eq!(last, expected);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_told_to_stop_saves() {
    let scratch = Scratch::new("told");
    for (run, signal) in ["-TERM", "-INT"].into_iter().enumerate() {
        let mut process = Process::start(&scratch);
        assert_eq!(process.said("results: warm, 1 entries"), run > 0, "{:?}", process.told);
        let mut client = Client::connect(process.address).await.unwrap();
        get(&mut client, "/recommendations/3").await;
        // The connection stays open, which must not keep the service from stopping.
        let pid = process.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let mut rest = String::new();
        process.output.read_to_string(&mut rest).unwrap();
        assert!(process.child.wait().unwrap().success());
        assert!(rest.contains("saved "), "{rest}");
    }
}
