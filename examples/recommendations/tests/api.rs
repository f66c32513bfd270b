//! The API of a real server: what it answers, also to what is wrong.

mod common;

use common::{SIZE, Scratch, cache, get, post};
use hyper::Method;
use recommendations::client::Client;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_visit() {
    let scratch = Scratch::new("visit");
    let server = scratch.start().await;
    let mut client = Client::connect(server.address).await.unwrap();

    let health = get(&mut client, "/health").await;
    assert_eq!((&health["status"], &health["users"]), (&json!("ok"), &json!(SIZE.users)));

    let session = post(&mut client, "/session", json!({ "user": 7 })).await;
    let id = session["id"].as_str().unwrap();
    assert_eq!(id.len(), 32);

    let shown = get(&mut client, "/recommendations/7?n=5").await;
    let first = shown["items"][0]["id"].as_u64().unwrap();
    assert_eq!(shown["items"].as_array().unwrap().len(), 5);
    let scores: Vec<_> =
        shown["items"].as_array().unwrap().iter().map(|item| item["score"].as_f64()).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");

    let bought = json!({ "user": 7, "item": first, "kind": "buy", "session": id });
    let event = post(&mut client, "/events", bought).await;
    assert_eq!(event["in_session"], true);
    let shown = get(&mut client, "/recommendations/7?n=50").await;
    assert_eq!(shown["last_event"], event["id"]);
    assert!(shown["items"].as_array().unwrap().iter().all(|item| item["id"] != first), "it is bought");
    let user = get(&mut client, "/users/7").await;
    assert_eq!(user["recent"][0], json!({ "id": event["id"], "item": first, "kind": "buy" }));
    assert_eq!(get(&mut client, &format!("/session/{id}")).await["events"], 1);
    // Recorded all the same: with another user's session, one that is no more, or none.
    for (user, session) in [(8, json!(id)), (7, json!("0".repeat(32))), (7, Value::Null)] {
        let viewed = json!({ "user": user, "item": first + 1, "kind": "view", "session": session });
        assert_eq!(post(&mut client, "/events", viewed).await["in_session"], false);
    }
    assert_eq!(get(&mut client, &format!("/session/{id}")).await["events"], 1);

    let items = get(&mut client, "/items?ids=2,1,2,999999").await;
    let ids: Vec<_> = items["items"].as_array().unwrap().iter().map(|item| &item["id"]).collect();
    assert_eq!((ids, &items["missing"]), (vec![&json!(1), &json!(2)], &json!([999_999])));

    let shelf = get(&mut client, "/recommendations/7?shelf=3").await;
    assert!(shelf["items"].as_array().unwrap().iter().all(|item| item["shelf"] == 3));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let scratch = Scratch::new("wrong");
    let server = scratch.start().await;
    let mut client = Client::connect(server.address).await.unwrap();
    let json = |text: &str| Some(("application/json", text.to_owned()));
    let many = (1..=201).map(|id| id.to_string()).collect::<Vec<_>>().join(",");
    let in_session = |id: &str| json!({ "user": 1, "item": 1, "kind": "view", "session": id }).to_string();
    let long = in_session(&"x".repeat(20_000));
    let wrong = [
        (Method::GET, "/nothing".to_owned(), None, 404, "nothing at this address"),
        (Method::GET, "/recommendations/".into(), None, 404, "nothing"),
        (Method::GET, "/recommendations/401".into(), None, 404, "no user 401"),
        (Method::GET, "/recommendations/-1".into(), None, 400, "-1"),
        (Method::GET, "/recommendations/seven".into(), None, 400, "seven"),
        (Method::GET, "/recommendations/99999999999".into(), None, 400, "99999999999"),
        (Method::GET, "/recommendations/%FF".into(), None, 400, "UTF-8"),
        (Method::GET, "/recommendations/7?n=0".into(), None, 400, "n is 0"),
        (Method::GET, "/recommendations/7?n=51".into(), None, 400, "from 1 to 50"),
        (Method::GET, "/recommendations/7?n=-3".into(), None, 400, "n"),
        (Method::GET, "/recommendations/7?n=1000000000000".into(), None, 400, "n"),
        (Method::GET, "/recommendations/7?m=3".into(), None, 400, "unknown field `m`"),
        (Method::GET, "/recommendations/7?shelf=300".into(), None, 400, "shelf"),
        (Method::GET, "/recommendations/7?shelf=12".into(), None, 400, "shelf is 12"),
        (Method::POST, "/recommendations/7".into(), None, 405, "allow"),
        (Method::GET, "/events".into(), None, 405, "allow"),
        (Method::GET, "/users/0".into(), None, 404, "no user 0"),
        (Method::GET, "/items".into(), None, 400, "ids"),
        (Method::GET, "/items?ids=".into(), None, 400, "no number"),
        (Method::GET, "/items?ids=1,two".into(), None, 400, "two"),
        (Method::GET, "/items?ids=-1".into(), None, 400, "-1"),
        (Method::GET, format!("/items?ids={many}"), None, 400, "201 ids"),
        (Method::GET, format!("/items?ids={}", "1,".repeat(10_000)), None, 414, "8192 bytes"),
        (Method::GET, "/session/0123".into(), None, 404, "no such session"),
        (Method::POST, "/session".into(), json(r#"{"user":999999}"#), 422, "no user 999999"),
        (Method::POST, "/events".into(), json(r#"{"user":1,"#), 400, "EOF"),
        (Method::POST, "/events".into(), json(""), 400, "EOF"),
        (Method::POST, "/events".into(), json("[]"), 422, ""),
        (Method::POST, "/events".into(), json(r#"{"user":"1","item":1,"kind":"view"}"#), 422, "user"),
        (Method::POST, "/events".into(), json(r#"{"user":-1,"item":1,"kind":"view"}"#), 422, "user"),
        (Method::POST, "/events".into(), json(r#"{"user":1,"item":1,"kind":"steal"}"#), 422, "steal"),
        (Method::POST, "/events".into(), json(r#"{"user":1,"item":1}"#), 422, "kind"),
        (Method::POST, "/events".into(), json(r#"{"user":1,"item":1,"kind":"view","x":1}"#), 422, "`x`"),
        (Method::POST, "/events".into(), json(r#"{"user":999999,"item":1,"kind":"view"}"#), 422, "no user"),
        (Method::POST, "/events".into(), json(r#"{"user":1,"item":999999,"kind":"view"}"#), 422, "no item"),
        (Method::POST, "/events".into(), json(&in_session("tea")), 422, "session: that is no id"),
        (Method::POST, "/events".into(), json(&in_session("")), 422, "session: that is no id"),
        (Method::POST, "/events".into(), json(&in_session(&"g".repeat(32))), 422, "session: that is no id"),
        (Method::POST, "/events".into(), Some(("text/plain", "{}".to_owned())), 415, "Content-Type"),
        (Method::POST, "/events".into(), json(&long), 413, "16384 bytes"),
    ];
    for (method, path, body, status, part) in wrong {
        let case = format!("{method} {path} {body:.80?}");
        let (answered, text) = client.send(method, &path, body).await.unwrap();
        let answer: Value = serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(
            (answered.as_u16(), &answer["error"]["status"]),
            (status, &json!(status)),
            "{case}: {answer}"
        );
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(!message.is_empty() && message.contains(part), "{case}: {message}");
        // A body that was not read to its end closes the connection.
        if status == 413 {
            client = Client::connect(server.address).await.unwrap();
        }
    }
    assert_eq!(get(&mut client, "/health").await["last_event"], SIZE.events, "nothing was recorded");
    server.stop().await.unwrap();
}

/// Sends bytes as they are on a new connection, and returns the whole answer.
async fn raw(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn what_is_no_request_gets_json_too() {
    let scratch = Scratch::new("unparsed");
    let server = scratch.start().await;
    let headers: String = (0..200).map(|at| format!("x{at}: 1\r\n")).collect();
    for (request, status) in [
        (format!("GET /{} HTTP/1.1\r\nhost: here\r\n\r\n", "a".repeat(70_000)), 414),
        (format!("GET / HTTP/1.1\r\n{headers}\r\n"), 431),
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("POST /events HTTP/1.1\r\ncontent-length: many\r\n\r\n".to_owned(), 400),
    ] {
        let answer = raw(server.address, request.as_bytes()).await;
        let (head, body) =
            answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{request:.40}: {answer:?}"));
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(head.contains("content-type: application/json"), "{answer}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{answer}");
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["error"]["status"], status, "{answer}");
        assert!(!body["error"]["message"].as_str().unwrap().is_empty(), "{answer}");
    }
    server.stop().await.unwrap();
}

/// A store that fails, here for want of a table, is no end of the service.
#[tokio::test]
async fn a_store_that_fails_is_told_and_can_recover() {
    let scratch = Scratch::new("failing");
    let server = scratch.start().await;
    let mut client = Client::connect(server.address).await.unwrap();
    get(&mut client, "/recommendations/3").await;
    get(&mut client, "/recommendations/4").await;
    let other = rusqlite::Connection::open(scratch.config().store()).unwrap();
    other.execute_batch("PRAGMA legacy_alter_table = 1; ALTER TABLE events RENAME TO gone").unwrap();
    let act = json!({ "user": 3, "item": 5, "kind": "click" });
    let (status, answer) = client.post("/events", &act).await.unwrap();
    assert_eq!(status, 500);
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["error"]["message"], "the service has failed; its log says why");
    // The event may have been written, for all one knows; so nothing is shown that was computed before.
    assert_eq!(client.get("/recommendations/3").await.unwrap().0, 500);
    get(&mut client, "/recommendations/4").await;
    other.execute_batch("ALTER TABLE gone RENAME TO events").unwrap();
    let event = post(&mut client, "/events", act).await;
    assert_eq!(get(&mut client, "/recommendations/3").await["last_event"], event["id"]);
    server.stop().await.unwrap();
}

/// Whatever keeps the store from being written, as a full disk does: it can be read, but it is not well.
#[tokio::test]
async fn health_tells_of_a_store_that_cannot_be_written() {
    let scratch = Scratch::new("unwritten");
    let server = scratch.start().await;
    let mut client = Client::connect(server.address).await.unwrap();
    let other = rusqlite::Connection::open(scratch.config().store()).unwrap();
    // This makes the table that it writes to.
    assert_eq!(get(&mut client, "/health").await["status"], "ok");
    for table in ["probe", "events"] {
        let fail = "BEGIN SELECT RAISE(FAIL, 'the disk is full'); END";
        other.execute_batch(&format!("CREATE TRIGGER full_{table} BEFORE INSERT ON {table} {fail}")).unwrap();
    }
    let act = json!({ "user": 3, "item": 5, "kind": "click" });
    assert_eq!(client.post("/events", &act).await.unwrap().0, 500);
    get(&mut client, "/recommendations/3").await;
    let (status, answer) = client.get("/health").await.unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(status, 503);
    assert_eq!(answer["error"]["message"], "events cannot be recorded: the disk is full");
    other.execute_batch("DROP TRIGGER full_probe; DROP TRIGGER full_events").unwrap();
    post(&mut client, "/events", act).await;
    assert_eq!(get(&mut client, "/health").await["status"], "ok");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn who_does_not_exist_is_remembered() {
    let scratch = Scratch::new("negative");
    let server = scratch.start().await;
    let mut client = Client::connect(server.address).await.unwrap();
    for _ in 0..5 {
        assert_eq!(client.get("/recommendations/4000").await.unwrap().0, 404);
    }
    let users = cache(&mut client, "users").await;
    assert_eq!((&users["misses"], &users["hits"]), (&json!(1), &json!(4)));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn caches_make_no_difference_but_time() {
    let scratch = Scratch::new("difference");
    let mut answers = Vec::new();
    for is_caching in [true, false] {
        let server = if is_caching { scratch.start().await } else { scratch.start_without_caches().await };
        let mut client = Client::connect(server.address).await.unwrap();
        let mut all = Vec::new();
        for user in 1..=60 {
            all.push(get(&mut client, &format!("/recommendations/{user}?n=50")).await);
            all.push(get(&mut client, &format!("/recommendations/{user}?shelf=2")).await);
            all.push(get(&mut client, &format!("/users/{user}")).await);
        }
        answers.push(all);
        server.stop().await.unwrap();
    }
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test]
async fn a_model_is_trained_while_others_read() {
    let scratch = Scratch::new("train");
    let server = scratch.start().await;
    let mut client = Client::connect(server.address).await.unwrap();
    assert_eq!(get(&mut client, "/recommendations/1").await["model"], 1);
    post(&mut client, "/events", json!({ "user": 1, "item": 5, "kind": "click" })).await;
    let (status, _) = client.send(Method::POST, "/retrain", None).await.unwrap();
    assert_eq!(status, 202);
    while get(&mut client, "/health").await["model"] != 2 {
        assert!(get(&mut client, "/recommendations/2").await["model"].as_u64() >= Some(1));
    }
    // Not seen before, so it is computed with the new one.
    assert_eq!(get(&mut client, "/recommendations/3").await["model"], 2);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn metrics_are_as_prometheus_reads_them() {
    let scratch = Scratch::new("metrics");
    let server = scratch.start().await;
    let mut client = Client::connect(server.address).await.unwrap();
    for user in 1..30 {
        get(&mut client, &format!("/recommendations/{user}")).await;
    }
    client.get("/nothing").await.unwrap();
    let (_, text) = client.get("/metrics").await.unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert!(text.ends_with('\n'));

    let (mut kinds, mut helped, mut samples) = (HashMap::new(), HashSet::new(), HashMap::new());
    let (mut family, mut helps) = (String::new(), HashSet::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split_once(' ').unwrap().0.to_owned();
            assert!(helped.insert(family.clone()), "{family} comes once, with all its samples");
            let help = help.split_once(' ').unwrap().1;
            assert!(help.ends_with('.') && help.split(' ').count() >= 4, "{family} is explained: {help}");
            assert!(helps.insert(help), "{help}: it says this of two families");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, family);
            kinds.insert(name.to_owned(), kind.to_owned());
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let value: f64 = value.parse().unwrap();
            let (name, labels) = series.split_once('{').unwrap();
            let kind = &kinds[&family];
            let parts = ["_bucket", "_sum", "_count"].map(|part| format!("{family}{part}"));
            assert!(
                if kind == "histogram" { parts.contains(&name.to_owned()) } else { name == family },
                "{line}"
            );
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            for label in labels.strip_suffix('}').unwrap().split("\",") {
                let (name, value) = label.split_once("=\"").unwrap();
                assert!(
                    name.chars().all(|letter| letter.is_ascii_lowercase()) && !value.is_empty(),
                    "{line}"
                );
            }
            assert!(samples.insert(series.to_owned(), value).is_none(), "{series} comes once");
        }
    }
    let route = "route=\"/recommendations/{user}\",status=\"200\"";
    let bucket = |end: &str| samples[&format!("http_request_seconds_bucket{{{route},le=\"{end}\"}}")];
    assert_eq!(bucket("+Inf"), 29.0);
    assert_eq!(samples[&format!("http_request_seconds_count{{{route}}}")], 29.0);
    let ends: Vec<_> = (6..=22).map(|power| bucket(&(f64::from(1 << power) / 1e6).to_string())).collect();
    assert!(ends.is_sorted() && ends[16] <= 29.0, "{ends:?}");
    assert!(samples.contains_key("http_request_seconds_count{route=\"other\",status=\"404\"}"));
    assert_eq!(samples["larder_cache_misses_total{cache=\"results\"}"], 29.0);
    assert_eq!(samples["larder_cache_entries{cache=\"results\"}"], 29.0);
    server.stop().await.unwrap();
}
