//! Who may ask.

use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{raw, send};
use crate::{config, serve, shared};

fn status(headers: &[(&str, &str)]) -> u16 {
    send(shared(), "GET", "/v1/models", headers, "").status()
}

#[test]
fn a_page_of_another_site_reaches_nothing() {
    assert_eq!(status(&[]), 200);
    assert_eq!(
        status(&[("host", "localhost:1"), ("origin", "http://localhost:1")]),
        200
    );
    // A name that was made to point here, and a page that posts across sites.
    assert_eq!(status(&[("host", "evil.example")]), 403);
    assert_eq!(status(&[("origin", "http://evil.example")]), 403);
    assert_eq!(status(&[("origin", "null")]), 403);
    let preflight = [
        ("origin", "http://evil.example"),
        ("access-control-request-method", "POST"),
    ];
    let reply = send(shared(), "OPTIONS", "/v1/chat/completions", &preflight, "").whole();
    assert_eq!(reply.status, 403);
    assert!(reply.header("access-control-allow-origin").is_none());
    assert_eq!(
        raw(shared(), "GET /v1/models HTTP/1.1\r\n\r\n").status(),
        400
    );
}

#[test]
fn a_site_that_was_allowed_may_read() {
    let mut open = config();
    open.origins = vec!["https://chat.example".into()];
    open.hosts = vec!["box.lan".into()];
    let address = serve(open).address;
    let page = [("host", "box.lan"), ("origin", "https://chat.example")];
    let reply = send(address, "GET", "/v1/models", &page, "").whole();
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.header("access-control-allow-origin"),
        Some("https://chat.example")
    );
    let asks = [
        page[0],
        page[1],
        (
            "access-control-request-headers",
            "authorization,content-type",
        ),
    ];
    let reply = send(address, "OPTIONS", "/v1/chat/completions", &asks, "").whole();
    assert_eq!(reply.status, 204);
    assert_eq!(
        reply.header("access-control-allow-headers"),
        Some("authorization,content-type")
    );
}

#[test]
fn a_key_is_asked_for_where_there_is_one() {
    let mut locked = config();
    locked.keys = vec!["k1".into(), "k2".into()];
    let address = serve(locked).address;
    let ask =
        |headers: &[(&str, &str)], path: &str| send(address, "GET", path, headers, "").whole();
    assert_eq!(ask(&[], "/health").status, 200);
    for path in ["/v1/models", "/metrics", "/nothing"] {
        let reply = ask(&[], path);
        assert_eq!(reply.status, 401, "{path}");
        assert_eq!(reply.json()["error"]["code"], "invalid_api_key");
    }
    assert_eq!(
        ask(&[("authorization", "Bearer k3")], "/v1/models").status,
        401
    );
    assert_eq!(
        ask(&[("authorization", "Bearer k2")], "/v1/models").status,
        200
    );
    assert_eq!(ask(&[("x-api-key", "k1")], "/v1/models").status, 200);
}

#[test]
fn who_sends_no_head_is_let_go() {
    let mut hasty = config();
    hasty.header_time = Duration::from_millis(200);
    let address = serve(hasty).address;
    let since = Instant::now();
    let mut idle = TcpStream::connect(address).unwrap();
    idle.set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut rest = Vec::new();
    // It is closed, with or without a word.
    let _ = idle.read_to_end(&mut rest);
    assert!(since.elapsed() < Duration::from_secs(20));
}

#[test]
fn metrics_count_what_was_done() {
    let address = serve(config()).address;
    let request =
        json!({"messages": [{"role": "user", "content": "What is 17 + 25?"}], "temperature": 0});
    crate::client::post(address, "/v1/chat/completions", &request).ok();
    crate::client::post(address, "/v1/chat/completions", &json!({}));
    let text = crate::client::get(address, "/metrics").body;
    for line in [
        "llamacpp:tokens_predicted_total 2",
        "llamacpp:requests_processing 0",
        "vllm:request_success_total 1",
        "vllm:time_to_first_token_seconds_count 1",
        "ml:requests_refused_total 1",
    ] {
        assert!(text.lines().any(|known| known == line), "{line}: {text}");
    }
}
