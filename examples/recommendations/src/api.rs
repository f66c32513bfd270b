//! The HTTP API.
//!
//! ```text
//! GET  /recommendations/{user}?n=10&shelf=3   ranked items
//! POST /events {user, item, kind, session?}   what a user has done: view, click, buy or dismiss
//! GET  /users/{user}                          who it is, and what they did lately
//! GET  /items?ids=1,2,3                       what is known of items
//! POST /session {user}                        begins a visit
//! GET  /session/{id}
//! POST /retrain                               trains a model in the background
//! GET  /metrics, /stats.json, /health, /      for whoever runs the service
//! ```

use crate::caches::{REQUEST_TIME, ResultKey};
use crate::connections::UnderWay;
use crate::console::{say, warn};
use crate::domain::{Event, Item, ItemId, Kind, UserId};
use crate::errors::{ApiError, Json, Path, Query, with_whole_body};
use crate::metrics::Requests;
use crate::model::{RANKED, Ranked};
use crate::service::{Service, is_session_id};
use crate::store::{NewEvent, SHELVES, shelf_name};
use crate::{metrics, stats};
use axum::Router;
use axum::extract::{FromRef, MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;
use tokio::time::timeout;

const MOST_ITEMS: usize = 200;

type Answer<T> = Result<T, ApiError>;

#[derive(Clone, FromRef)]
pub struct Shared {
    pub service: Arc<Service>,
    pub requests: Arc<Requests>,
    pub under_way: UnderWay,
}

pub fn router(shared: Shared) -> Router {
    Router::new()
        .route("/", get(async || Html(include_str!("page.html"))))
        .route("/recommendations/{user}", get(recommendations))
        .route("/events", post(record))
        .route("/users/{user}", get(user))
        .route("/items", get(items))
        .route("/session", post(begin_session))
        .route("/session/{id}", get(session))
        .route("/retrain", post(retrain))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/stats.json", get(stats))
        .fallback(async || ApiError::new(StatusCode::NOT_FOUND, "there is nothing at this address"))
        .method_not_allowed_fallback(async || {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "this address has other methods: see `allow`")
        })
        .layer(from_fn_with_state(shared.clone(), measure))
        .with_state(shared)
}

/// Counts requests and their time, by route and not by address, of which there are too many.
async fn measure(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let Shared { requests, under_way, .. } = shared;
    let begun = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let answer = async {
        let request = tokio::select! {
            biased;
            request = with_whole_body(request) => request?,
            // Nobody waits for the rest of a body then.
            () = under_way.stopping() => {
                return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the service stops"));
            }
        };
        let _answering = under_way.answering();
        Ok(next.run(request).await)
    };
    // Also a body that does not come to its end. What is dropped here leaves nothing half done: see `Store::record`.
    let answer = timeout(REQUEST_TIME, answer).await.unwrap_or_else(|_| {
        let what = format!("the request was not done after {REQUEST_TIME:?}");
        Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, what))
    });
    let mut response = answer.unwrap_or_else(IntoResponse::into_response);
    let route = route.as_ref().map_or("other", MatchedPath::as_str);
    requests.count(route, response.status().as_u16(), begun.elapsed());
    // What a browser is told must not be taken for something else.
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    n: Option<u32>,
    shelf: Option<u8>,
}

#[derive(Serialize)]
struct Recommendations<'a> {
    user: UserId,
    model: u64,
    last_event: i64,
    items: &'a [Ranked],
}

async fn recommendations(
    State(service): State<Arc<Service>>,
    Path(user): Path<UserId>,
    Query(wanted): Query<Wanted>,
) -> Answer<Response> {
    let n = wanted.n.unwrap_or(10) as usize;
    if !(1..=RANKED).contains(&n) {
        return Err(ApiError::bad_request(format!("n is {n}, but should be from 1 to {RANKED}")));
    }
    if let Some(shelf) = wanted.shelf.filter(|&shelf| shelf >= SHELVES) {
        return Err(ApiError::bad_request(format!("shelf is {shelf}, but should be below {SHELVES}")));
    }
    let ranking = service.recommend(ResultKey { user, shelf: wanted.shelf }).await?;
    // As many as can be asked for are cached, so that `n` is no part of the key.
    let items = &ranking.items[..n.min(ranking.items.len())];
    let answer = Recommendations { user, model: ranking.model, last_event: ranking.last_event, items };
    Ok(Json(answer).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Act {
    user: UserId,
    item: ItemId,
    kind: Kind,
    session: Option<String>,
}

#[derive(Serialize)]
struct Recorded {
    #[serde(flatten)]
    event: Event,
    /// Whether it counts in the session that was named.
    in_session: bool,
}

async fn record(State(service): State<Arc<Service>>, Json(act): Json<Act>) -> Answer<impl IntoResponse> {
    let new = NewEvent { user: act.user, item: act.item, kind: act.kind };
    if act.session.as_deref().is_some_and(|id| !is_session_id(id)) {
        let what = "session: that is no id of a session, which POST /session gives";
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, what));
    }
    let (event, in_session) = service.record(new, act.session.as_deref()).await.map_err(ApiError::in_body)?;
    Ok((StatusCode::CREATED, Json(Recorded { event, in_session })))
}

async fn user(State(service): State<Arc<Service>>, Path(id): Path<UserId>) -> Answer<Json<Value>> {
    let user = service.user(id).await?;
    let behaviour = service.behaviour(id).await?;
    let newest_first: Vec<&Event> = behaviour.recent.iter().rev().collect();
    Ok(Json(json!({
        "id": user.id,
        "name": user.name,
        "budget_cents": user.budget_cents,
        "recent": newest_first,
        "settled": behaviour.settled.len(),
    })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ids {
    ids: String,
}

async fn items(State(service): State<Arc<Service>>, Query(Ids { ids }): Query<Ids>) -> Answer<Json<Value>> {
    let ids = parse_ids(&ids)?;
    let found = service.items(ids.clone()).await?;
    let missing: Vec<_> = ids.iter().filter(|id| !found.contains_key(id)).collect();
    let items: Vec<_> = ids.iter().filter_map(|id| found.get(id)).map(|item| describe(item)).collect();
    Ok(Json(json!({ "items": items, "missing": missing })))
}

fn describe(item: &Item) -> Value {
    json!({
        "id": item.id,
        "title": item.title,
        "shelf": item.shelf,
        "shelf_name": shelf_name(item.shelf),
        "price_cents": item.price_cents,
        "is_available": item.is_available,
    })
}

fn parse_ids(ids: &str) -> Answer<Vec<ItemId>> {
    let parse = |id: &str| {
        let wrong = |_| ApiError::bad_request(format!("ids: {id:?} is no number of an item"));
        id.trim().parse::<ItemId>().map_err(wrong)
    };
    let ids = ids.split(',').map(parse).collect::<Answer<BTreeSet<_>>>()?;
    if ids.len() > MOST_ITEMS {
        return Err(ApiError::bad_request(format!(
            "{} ids, but at most {MOST_ITEMS} are allowed",
            ids.len()
        )));
    }
    Ok(ids.into_iter().collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Visitor {
    user: UserId,
}

async fn begin_session(
    State(service): State<Arc<Service>>,
    Json(Visitor { user }): Json<Visitor>,
) -> Answer<impl IntoResponse> {
    let id = service.begin_session(user).await.map_err(ApiError::in_body)?;
    Ok((StatusCode::CREATED, Json(json!({ "id": id, "user": user }))))
}

async fn session(State(service): State<Arc<Service>>, Path(id): Path<String>) -> Answer<Json<Value>> {
    let session = service.session(&id)?;
    Ok(Json(json!({ "id": id, "user": session.user, "events": session.events })))
}

/// Answers at once; `/health` tells the version of the model in use.
async fn retrain(State(service): State<Arc<Service>>) -> Answer<impl IntoResponse> {
    if service.is_training() {
        return Err(crate::service::Error::Training.into());
    }
    tokio::spawn(async move {
        match service.retrain().await {
            Ok(version) => say(format_args!("trained model {version}")),
            Err(error) => warn(format_args!("no model was trained: {error}")),
        }
    });
    Ok((StatusCode::ACCEPTED, Json(json!({ "started": true }))))
}

async fn health(State(service): State<Arc<Service>>) -> Answer<Json<Value>> {
    let last_event = service.store.last_event().await.map_err(crate::service::Error::from)?;
    service.store.probe().await.map_err(|error| {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, format!("events cannot be recorded: {error}"))
    })?;
    Ok(Json(json!({
        "status": "ok",
        "uptime_seconds": service.started.elapsed().as_secs(),
        "users": service.shape.users,
        "items": service.shape.items,
        "last_event": last_event,
        "model": service.model_version(),
        "is_training": service.is_training(),
    })))
}

async fn metrics(State(shared): State<Shared>) -> impl IntoResponse {
    let text = metrics::exposition(&shared.service.caches, &shared.requests);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

async fn stats(State(shared): State<Shared>) -> Json<Value> {
    Json(stats::stats(&shared.service, &shared.requests))
}
