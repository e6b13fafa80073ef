//! What a client is told when something is wrong: one object, in the form of the API that it speaks.

use std::borrow::Cow;
use std::path::Path;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use ml_backend::Error;
use ml_backend::chat::ChatError;
use serde::Serialize;

/// `Result` with an [`ApiError`].
pub(crate) type Result<T, E = ApiError> = std::result::Result<T, E>;

/// A refusal or a failure, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    /// One line: what was wrong and what to do.
    pub(crate) message: String,
    /// The field of the request that it is about.
    pub(crate) param: Option<String>,
    /// A word for programs.
    pub(crate) code: Option<&'static str>,
    /// Seconds after which another try makes sense.
    pub(crate) retry_after: Option<u32>,
}

/// Whose form an error has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    OpenAi,
    Anthropic,
}

impl Style {
    /// The form that clients of a path understand.
    pub(crate) fn of_path(path: &str) -> Self {
        match path.starts_with("/v1/messages") {
            true => Self::Anthropic,
            false => Self::OpenAi,
        }
    }
}

#[derive(Serialize)]
struct Wire<'a> {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    error: WireError<'a>,
}

#[derive(Serialize)]
struct WireError<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<&'a str>,
    code: Option<&'static str>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: line(&message.into(), 1000),
            param: None,
            code: None,
            retry_after: None,
        }
    }

    /// A request that is wrong, without a field to name.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// A field whose value cannot be used.
    pub(crate) fn field(param: impl Into<String>, message: impl std::fmt::Display) -> Self {
        let param = line(&param.into(), 200);
        Self {
            code: Some("invalid_value"),
            ..Self::bad(format!("{param}: {message}"))
        }
        .param(param)
    }

    /// A field that nobody here knows.
    pub(crate) fn unknown_field(param: impl Into<String>) -> Self {
        let error = Self::field(
            param,
            "this server does not know the field; leave it out (docs/server.md lists what it knows)",
        );
        error.code("unknown_parameter")
    }

    /// A field that is known and not supported.
    pub(crate) fn unsupported(param: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self::field(param, format_args!("not supported: {why}")).code("unsupported_parameter")
    }

    pub(crate) fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    pub(crate) fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    pub(crate) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The same of a field, if the request is wrong and no field is named yet.
    pub(crate) fn about(mut self, field: &str) -> Self {
        if self.status == StatusCode::BAD_REQUEST && self.param.is_none() {
            self.param = Some(field.to_owned());
        }
        self
    }

    /// The same of the field `to`, if it is about `from`: what the engine calls by one name has another in some API.
    pub(crate) fn renamed(mut self, from: &str, to: &str) -> Self {
        if self.param.as_deref() == Some(from) {
            self.param = Some(to.to_owned());
        }
        self
    }

    /// The server ends and takes nothing more.
    pub(crate) fn shutting_down() -> Self {
        let message = "the server is shutting down; try again when it is back";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
            .code("shutting_down")
            .retry_after(5)
    }

    /// What kind of error it is, by the words of `style`.
    fn kind(&self, style: Style) -> &'static str {
        let (open_ai, anthropic) = match self.status.as_u16() {
            401 => ("authentication_error", "authentication_error"),
            403 => ("permission_error", "permission_error"),
            404 => ("invalid_request_error", "not_found_error"),
            413 => ("invalid_request_error", "request_too_large"),
            429 => ("rate_limit_error", "rate_limit_error"),
            503 => ("server_error", "overloaded_error"),
            400..=499 => ("invalid_request_error", "invalid_request_error"),
            _ => ("server_error", "api_error"),
        };
        match style {
            Style::OpenAi => open_ai,
            Style::Anthropic => anthropic,
        }
    }

    /// The object as JSON.
    pub(crate) fn body(&self, style: Style) -> String {
        let wire = Wire {
            kind: (style == Style::Anthropic).then_some("error"),
            error: WireError {
                message: &self.message,
                kind: self.kind(style),
                param: self.param.as_deref(),
                code: self.code,
            },
        };
        crate::json::text(&wire)
    }

    pub(crate) fn response(&self, style: Style) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body(style)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<&Error> for ApiError {
    fn from(error: &Error) -> Self {
        let line = one_line(error);
        let with = |status, code| Self::new(status, line.clone()).code(code);
        match error {
            Error::InvalidOption { name, .. } => {
                // What the engine calls otherwise than every API.
                let name = match *name {
                    "xtc.probability" => "xtc_probability",
                    "xtc.threshold" => "xtc_threshold",
                    "template_variables" => "chat_template_kwargs",
                    name => name,
                };
                with(StatusCode::BAD_REQUEST, "invalid_value").param(name)
            }
            Error::PromptTooLong { .. } | Error::PromptTooLarge { .. } => {
                with(StatusCode::BAD_REQUEST, "context_length_exceeded")
            }
            Error::Structure { .. } => {
                with(StatusCode::BAD_REQUEST, "invalid_value").param("response_format")
            }
            Error::NoFillInTheMiddle { .. } => {
                with(StatusCode::BAD_REQUEST, "unsupported_parameter").param("suffix")
            }
            Error::Tools { .. } => with(StatusCode::BAD_REQUEST, "invalid_value").param("tools"),
            Error::EmptyPrompt | Error::TokenOutOfRange { .. } => {
                with(StatusCode::BAD_REQUEST, "invalid_value")
            }
            // The request is sound, and this model cannot do it.
            Error::Embedding { path, problem } => {
                let message = format!("{}: {problem}", file_name(path));
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, message).code("unsupported_by_model")
            }
            Error::NoTokenizer { .. } => {
                let message = "the model has no tokenizer, so it takes token ids and no text";
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, message).code("unsupported_by_model")
            }
            Error::Chat(cause) => {
                let message = match cause.downcast_ref() {
                    Some(
                        ChatError::Syntax {
                            path,
                            line,
                            problem,
                        }
                        | ChatError::Render {
                            path,
                            line,
                            problem,
                        },
                    ) => {
                        let file = file_name(path);
                        format!("{file}: line {line} of the chat template: {problem}")
                    }
                    _ => one_line(error),
                };
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, message).code("unsupported_by_model")
            }
            Error::Tokenizer(_) => with(StatusCode::UNPROCESSABLE_ENTITY, "unsupported_by_model"),
            Error::QueueFull { waiting } => {
                let message = format!("{waiting} requests are waiting already; try again later");
                Self::new(StatusCode::TOO_MANY_REQUESTS, message)
                    .code("queue_full")
                    .retry_after(1)
            }
            Error::TooLittleMemory { .. } | Error::LargerThanTheMachine { .. } => {
                with(StatusCode::SERVICE_UNAVAILABLE, "model_does_not_fit")
            }
            Error::EngineEnded | Error::Thread(_) => {
                with(StatusCode::SERVICE_UNAVAILABLE, "engine_ended")
            }
            Error::Cancelled { .. } | Error::CancelledTexts { .. } => {
                with(StatusCode::SERVICE_UNAVAILABLE, "cancelled")
            }
            _ => with(StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
        }
    }
}

/// A text on one line of at most so many characters: it may be what a client sent.
fn line(text: &str, most: usize) -> String {
    let mut line = String::new();
    for (at, c) in text.chars().enumerate() {
        match c {
            _ if at == most => {
                line.push_str(" ...");
                break;
            }
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    line
}

/// The last part of a path: where a model's files lie is nobody's business.
fn file_name(path: &Path) -> Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

/// An error and its causes on one line, what was said already left out.
pub(crate) fn one_line(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        next = cause.source();
    }
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_api_gets_its_own_form() {
        let error = ApiError::unknown_field("temprature");
        let open_ai: serde_json::Value = serde_json::from_str(&error.body(Style::OpenAi)).unwrap();
        assert_eq!(open_ai["error"]["param"], "temprature");
        assert_eq!(open_ai["error"]["code"], "unknown_parameter");
        assert_eq!(open_ai["error"]["type"], "invalid_request_error");
        assert!(open_ai.get("type").is_none());
        let error = ApiError::new(StatusCode::NOT_FOUND, "no such model");
        let anthropic = error.body(Style::of_path("/v1/messages/count_tokens"));
        let anthropic: serde_json::Value = serde_json::from_str(&anthropic).unwrap();
        assert_eq!(anthropic["type"], "error");
        assert_eq!(anthropic["error"]["type"], "not_found_error");
    }

    #[test]
    fn what_a_client_sent_does_not_make_a_message_long_or_many_lines() {
        let error = ApiError::unknown_field("x\n\u{1b}".repeat(1000));
        assert!(!error.message.contains(char::is_control) && error.message.len() < 2000);
        assert!(
            error
                .param
                .is_some_and(|param| param.starts_with("x\\n\\u{1b}x") && param.len() < 2000)
        );
    }

    #[test]
    fn a_full_queue_says_when_to_come_again() {
        let response = ApiError::from(&Error::QueueFull { waiting: 3 }).response(Style::OpenAi);
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }

    #[test]
    fn a_prompt_that_is_too_long_has_the_code_that_clients_look_for() {
        let error = Error::PromptTooLong {
            prompt_tokens: 9,
            context: 8,
        };
        let error = ApiError::from(&error);
        assert_eq!(error.status, StatusCode::BAD_REQUEST);
        assert_eq!(error.code, Some("context_length_exceeded"));
    }
}
