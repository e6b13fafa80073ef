//! JSON in and out: bodies of bounded size, answers that are never half written.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::LengthLimitError;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::errors::{ApiError, Result};

/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(60);

/// The JSON of a value. Ours have text keys and finite numbers, so that this cannot fail.
pub(crate) fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

/// An answer of JSON.
pub(crate) fn response(value: &impl Serialize) -> Response<Body> {
    let mut response = Response::new(Body::from(text(value)));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// The object that a client sent.
///
/// # Errors
/// 413 for more than `limit` bytes, 415 for another media type, 408 for one that does not arrive, 400 for what is
/// no JSON object.
pub(crate) async fn object(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<Map<String, Value>> {
    check_media_type(headers)?;
    check_encoding(headers)?;
    parse(&bytes(headers, body, limit).await?)
}

/// The object that a body is.
///
/// # Errors
/// 400 for what is none.
pub(crate) fn parse(body: &[u8]) -> Result<Map<String, Value>> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(ApiError::bad("the body is no JSON object").code("invalid_json")),
        Err(error) => {
            let message = format!("the body is no JSON: {error}");
            Err(ApiError::bad(message).code("invalid_json"))
        }
    }
}

/// A body without a media type is taken for JSON; a page of another site cannot send one without its Origin.
fn check_media_type(headers: &HeaderMap) -> Result<()> {
    let Some(given) = headers.get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    let kind = given.to_str().unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = format!("the body is {kind:?}; send JSON with 'Content-Type: application/json'");
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).code("unsupported_media_type"))
}

/// Bodies come as they are.
fn check_encoding(headers: &HeaderMap) -> Result<()> {
    let Some(given) = headers.get(header::CONTENT_ENCODING) else {
        return Ok(());
    };
    if given.as_bytes().eq_ignore_ascii_case(b"identity") {
        return Ok(());
    }
    let message = format!("the body is in the encoding {given:?}; send it without one");
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).code("unsupported_media_type"))
}

async fn bytes(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes> {
    let too_large = || {
        let message = format!(
            "the body has more than {limit} bytes; send less, or start the server with a larger --max-body"
        );
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message).code("body_too_large")
    };
    let announced = headers.get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIME, axum::body::to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_length_limit(&error) => Err(too_large()),
        Ok(Err(_)) => Err(ApiError::bad("the body broke off")),
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not arrive in time",
        )),
    }
}

fn is_length_limit(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|cause| cause.is::<LengthLimitError>())
}
