//! What was computed before an event is not shown after it.

mod common;

use common::{SIZE, Scratch, get, post};
use recommendations::caches::MODEL;
use recommendations::client::Client;
use serde_json::json;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::Notify;

const USERS: usize = 4;

/// Writers and readers of the same few users. A reader notes before it asks which event has been answered for.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_result_is_older_than_the_last_event() {
    let scratch = Scratch::new("stale");
    let server = scratch.start().await;
    let told: Arc<[AtomicI64; USERS]> = Arc::default();
    let is_done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..6)
        .map(|reader| {
            let (address, told, is_done) = (server.address, Arc::clone(&told), Arc::clone(&is_done));
            tokio::spawn(async move {
                let mut client = Client::connect(address).await.unwrap();
                let mut asked = 0;
                while !is_done.load(SeqCst) {
                    let at = (asked + reader) % USERS;
                    let known = told[at].load(SeqCst);
                    let path = match asked % 5 {
                        0 => format!("/recommendations/{}?shelf=1", at + 1),
                        1 => format!("/users/{}", at + 1),
                        _ => format!("/recommendations/{}", at + 1),
                    };
                    let answer = get(&mut client, &path).await;
                    let seen = answer["last_event"].as_i64().or(answer["recent"][0]["id"].as_i64()).unwrap();
                    assert!(seen >= known, "{path}: computed from event {seen}, after {known} was recorded");
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    // As when memory is short: behaviours leave all the time, so they are loaded while events are recorded.
    let evicting = std::thread::spawn({
        let (caches, is_done) = (server.service.caches.clone(), Arc::clone(&is_done));
        move || {
            while !is_done.load(SeqCst) {
                (1..=USERS as u32).for_each(|user| drop(caches.behaviour.remove(&user)));
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    });
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let (address, told) = (server.address, Arc::clone(&told));
            tokio::spawn(async move {
                let mut client = Client::connect(address).await.unwrap();
                for round in 0..300 {
                    let at = (round + writer) % USERS;
                    let act = json!({ "user": at + 1, "item": 1 + round % 50, "kind": "click" });
                    let event = post(&mut client, "/events", act).await;
                    told[at].fetch_max(event["id"].as_i64().unwrap(), SeqCst);
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    is_done.store(true, SeqCst);
    evicting.join().unwrap();
    for reader in readers {
        assert!(reader.await.unwrap() > 50);
    }
    server.stop().await.unwrap();
}

/// A load that has read the model before does not bring it back.
#[tokio::test]
async fn a_model_that_is_loaded_during_a_training_does_not_stay() {
    let scratch = Scratch::new("training");
    let server = scratch.start().await;
    let service = &server.service;
    let trained = Notify::new();
    let slow = |_: &String| async {
        let model = service.store.model().await.map(Arc::new);
        trained.notified().await;
        model
    };
    let load = service.caches.models.try_get_or_load_async(MODEL.to_owned(), slow);
    let train = async {
        let version = service.retrain().await.unwrap();
        trained.notify_one();
        version
    };
    let (before, version) = tokio::join!(load, train);
    assert_eq!((before.unwrap().version, version), (1, 2));
    assert_eq!(service.model_version(), Some(2));
    server.stop().await.unwrap();
}

/// Whoever hangs up has the event recorded or not, but the caches always know what the store does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_hang_up_leave_nothing_stale() {
    let scratch = Scratch::new("hang-up");
    let server = scratch.start().await;
    let mut client = Client::connect(server.address).await.unwrap();
    for round in 0..200 {
        get(&mut client, "/recommendations/5").await;
        let body = r#"{"user":5,"item":9,"kind":"click"}"#;
        let head = "POST /events HTTP/1.1\r\nhost: here\r\ncontent-type: application/json\r\ncontent-length";
        let mut hasty = TcpStream::connect(server.address).unwrap();
        hasty.write_all(format!("{head}: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
        tokio::time::sleep(Duration::from_micros(37 * round % 500)).await;
        drop(hasty);
    }
    // Until all that was begun has ended.
    let mut last = -1;
    while get(&mut client, "/health").await["last_event"] != last {
        last = get(&mut client, "/health").await["last_event"].as_i64().unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(last > i64::from(SIZE.events), "some were recorded");
    // Not only of the last one.
    assert_eq!(*server.service.behaviour(5).await.unwrap(), server.service.store.behaviour(5).await.unwrap());
    assert_eq!(get(&mut client, "/recommendations/5").await["last_event"], last);
    server.stop().await.unwrap();
}
