//! Errors as answers: a fitting status, and JSON that says what is wrong.

use crate::console::warn;
use crate::service::Error;
use axum::body::to_bytes;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::LengthLimitError;
use serde::Serialize;
use serde_json::json;
use std::error::Error as _;

/// The limit for a body.
const MOST_BYTES: usize = 16 << 10;
/// The limit for an address. hyper refuses more than 64 KiB itself: see `unparsed.rs`.
const LONGEST_ADDRESS: usize = 8 << 10;

#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    what: String,
}

impl ApiError {
    pub fn new(status: StatusCode, what: impl Into<String>) -> Self {
        Self { status, what: what.into() }
    }

    /// For what is wrong in the request itself.
    pub fn bad_request(what: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, what)
    }

    /// Where a thing is missing that the body names, not the address.
    pub fn in_body(error: Error) -> Self {
        let error = Self::from(error);
        match error.status {
            StatusCode::NOT_FOUND => Self { status: StatusCode::UNPROCESSABLE_ENTITY, ..error },
            _ => error,
        }
    }
}

/// Returns the body of an error.
pub fn body(status: StatusCode, what: &str) -> String {
    json!({ "error": { "status": status.as_u16(), "message": what } }).to_string()
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = body(self.status, &self.what);
        (self.status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let status = match error {
            Error::NoUser(_) | Error::NoItem(_) | Error::NoSession => StatusCode::NOT_FOUND,
            Error::Training => StatusCode::CONFLICT,
            Error::Store(_) | Error::Internal(_) => {
                // What went wrong inside is for whoever runs the service.
                warn(format_args!("a request has failed: {error}"));
                return Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the service has failed; its log says why",
                );
            }
        };
        Self::new(status, error.to_string())
    }
}

/// The extractors of axum, with such answers when the request does not fit.
#[derive(FromRequest)]
#[from_request(via(axum::Json), rejection(ApiError))]
pub struct Json<T>(pub T);

#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(ApiError))]
pub struct Path<T>(pub T);

#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(ApiError))]
pub struct Query<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// Reads the body of a request to its end, so that handlers need not wait for it.
///
/// # Errors
///
/// If the address or the body is too long, or the client is gone.
pub async fn with_whole_body(request: Request) -> Result<Request, ApiError> {
    if request.uri().path_and_query().is_some_and(|address| address.as_str().len() > LONGEST_ADDRESS) {
        let what = format!("the address is longer than {LONGEST_ADDRESS} bytes");
        return Err(ApiError::new(StatusCode::URI_TOO_LONG, what));
    }
    let (head, body) = request.into_parts();
    match to_bytes(body, MOST_BYTES).await {
        Ok(bytes) => Ok(Request::from_parts(head, bytes.into())),
        Err(error) if error.source().is_some_and(|cause| cause.is::<LengthLimitError>()) => {
            let what = format!("the body is longer than {MOST_BYTES} bytes");
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, what))
        }
        Err(error) => Err(ApiError::bad_request(format!("the body did not come to its end: {error}"))),
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}
