//! What is refused, and how.

use serde_json::{Value, json};

use crate::client::{get, post, raw, send};
use crate::{config, serve, shared};

/// Path, request, and what comes: status, param, code.
type Case = (&'static str, Value, u16, Option<&'static str>, &'static str);

fn user() -> Value {
    json!([{"role": "user", "content": "hello"}])
}

#[test]
fn each_refusal_names_what_is_wrong() {
    let chat = |more: Value| {
        let mut request = json!({"messages": user()});
        request
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        request
    };
    let path = "/v1/chat/completions";
    let invalid = "invalid_value";
    let unsupported = "unsupported_parameter";
    let cases: Vec<Case> = vec![
        (
            path,
            json!({}),
            400,
            Some("messages"),
            "missing_required_parameter",
        ),
        (
            path,
            json!({"messages": []}),
            400,
            Some("messages"),
            invalid,
        ),
        (
            path,
            json!({"messages": [{"role": "king"}]}),
            400,
            Some("messages[0]"),
            invalid,
        ),
        (
            path,
            chat(json!({"model": "gpt-4"})),
            404,
            Some("model"),
            "model_not_found",
        ),
        (
            path,
            chat(json!({"temprature": 1})),
            400,
            Some("temprature"),
            "unknown_parameter",
        ),
        (
            path,
            chat(json!({"stream_options": {"x": 1}})),
            400,
            Some("stream_options.x"),
            "unknown_parameter",
        ),
        (
            path,
            chat(json!({"temperature": "hot"})),
            400,
            Some("temperature"),
            invalid,
        ),
        (
            path,
            chat(json!({"temperature": -1})),
            400,
            Some("temperature"),
            invalid,
        ),
        (path, chat(json!({"top_p": 0})), 400, Some("top_p"), invalid),
        (
            path,
            chat(json!({"max_tokens": 0})),
            400,
            Some("max_tokens"),
            invalid,
        ),
        (
            path,
            chat(json!({"max_tokens": -1})),
            400,
            Some("max_tokens"),
            invalid,
        ),
        (path, chat(json!({"n": 0})), 400, Some("n"), invalid),
        (path, chat(json!({"n": 1000})), 400, Some("n"), invalid),
        (path, chat(json!({"stop": ""})), 400, Some("stop"), invalid),
        (
            path,
            chat(json!({"tool_choice": "required"})),
            400,
            Some("tool_choice"),
            invalid,
        ),
        (
            path,
            chat(json!({"tools": [{"type": "retrieval"}]})),
            400,
            Some("tools[0].type"),
            unsupported,
        ),
        // The demo model's template knows no tools.
        (
            path,
            chat(json!({"tools": [{"type": "function", "function": {"name": "now"}}]})),
            422,
            None,
            "unsupported_by_model",
        ),
        (
            path,
            chat(json!({"audio": {}})),
            400,
            Some("audio"),
            unsupported,
        ),
        (
            path,
            chat(json!({"functions": []})),
            400,
            Some("functions"),
            unsupported,
        ),
        (
            path,
            chat(json!({"verbosity": "high"})),
            400,
            Some("verbosity"),
            unsupported,
        ),
        (
            path,
            json!({"messages": [{"role": "user", "content": "hello ".repeat(3000)}]}),
            400,
            None,
            "context_length_exceeded",
        ),
        ("/v1/completions", json!({"prompt": ""}), 400, None, invalid),
        (
            "/v1/completions",
            json!({"prompt": [9999]}),
            400,
            None,
            invalid,
        ),
        (
            "/v1/completions",
            json!({"prompt": {}}),
            400,
            Some("prompt"),
            invalid,
        ),
        (
            "/v1/completions",
            json!({"prompt": "a", "suffix": "b"}),
            400,
            Some("suffix"),
            unsupported,
        ),
        (
            "/v1/completions",
            json!({"prompt": "a", "best_of": 2}),
            400,
            Some("best_of"),
            unsupported,
        ),
        (
            "/v1/embeddings",
            json!({"input": []}),
            400,
            Some("input"),
            invalid,
        ),
        (
            "/v1/embeddings",
            json!({"input": "a", "encoding_format": "hex"}),
            400,
            Some("encoding_format"),
            invalid,
        ),
        (
            "/v1/embeddings",
            json!({"input": "a", "prompt_name": "x"}),
            422,
            None,
            "unsupported_by_model",
        ),
        (
            "/rerank",
            json!({"query": "a", "documents": []}),
            400,
            Some("documents"),
            invalid,
        ),
        (
            "/tokenize",
            json!({"content": "a", "with_pieces": true}),
            400,
            Some("with_pieces"),
            "unknown_parameter",
        ),
        (
            "/v1/messages",
            json!({"messages": user()}),
            400,
            Some("max_tokens"),
            "missing_required_parameter",
        ),
        (
            "/v1/messages",
            json!({"messages": user(), "max_tokens": 4, "stop_sequences": [""]}),
            400,
            Some("stop_sequences"),
            invalid,
        ),
        (
            "/v1/messages",
            json!({"messages": [{"role": "user", "content": []}], "max_tokens": 4}),
            400,
            Some("messages[0].content"),
            invalid,
        ),
        (
            path,
            json!({"messages": [{"role": "user", "content": null}]}),
            400,
            Some("messages[0].content"),
            invalid,
        ),
        (
            path,
            chat(json!({"": 3})),
            400,
            Some("\"\""),
            "unknown_parameter",
        ),
        (path, chat(json!({"stop": 3})), 400, Some("stop"), invalid),
        (
            path,
            chat(json!({"top_k": -5})),
            400,
            Some("top_k"),
            invalid,
        ),
        (
            path,
            chat(json!({"max_completion_tokens": 0})),
            400,
            Some("max_completion_tokens"),
            invalid,
        ),
        (
            path,
            chat(json!({"xtc_probability": 2})),
            400,
            Some("xtc_probability"),
            invalid,
        ),
        (
            path,
            chat(json!({"chat_template_kwargs": {"messages": []}})),
            400,
            Some("chat_template_kwargs"),
            invalid,
        ),
        (
            "/v1/embeddings",
            json!({"input": "hello ".repeat(600)}),
            400,
            Some("input"),
            "context_length_exceeded",
        ),
        (
            "/v1/embeddings",
            json!({"input": ""}),
            400,
            Some("input"),
            invalid,
        ),
        ("/v1/nothing", json!({}), 404, None, "not_found"),
    ];
    for (path, request, status, param, code) in cases {
        let reply = post(shared(), path, &request);
        let error = &reply.json()["error"];
        assert_eq!(reply.status, status, "{request}: {error}");
        assert_eq!(error["param"], json!(param), "{request}: {error}");
        assert_eq!(error["code"], code, "{request}: {error}");
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|line| !line.is_empty() && !line.contains('\n'))
        );
        assert!(error["type"].is_string());
    }
}

#[test]
fn bodies_are_json_of_bounded_size() {
    let mut small = config();
    small.max_body = 1000;
    let address = serve(small).address;
    let json_type = [("content-type", "application/json; charset=utf-8")];
    let path = "/v1/chat/completions";
    let long = json!({"messages": [{"role": "user", "content": "x".repeat(2000)}]}).to_string();
    assert_eq!(send(address, "POST", path, &json_type, &long).status(), 413);
    // The same without saying how long it is.
    let chunked = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n\
         transfer-encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n",
        long.len()
    );
    assert_eq!(raw(address, &chunked).status(), 413);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(send(address, "POST", path, &form, "{}").status(), 415);
    for body in ["", "{", "[]", "\"x\"", "{\"messages\": [}"] {
        let reply = send(address, "POST", path, &json_type, body).whole();
        assert_eq!(
            (reply.status, &reply.json()["error"]["code"]),
            (400, &"invalid_json".into()),
            "{body}"
        );
    }
    // Deeper than any request is.
    let deep = format!("{}{}", "[".repeat(400), "]".repeat(400));
    assert_eq!(send(address, "POST", path, &json_type, &deep).status(), 400);
}

/// The messages' fields are those of the template, which may fail on them.
#[test]
fn what_is_null_is_left_out_and_what_fails_says_nothing_of_this_machine() {
    let path = "/v1/chat/completions";
    let null = json!({
        "messages": user(), "max_tokens": 1, "tool_choice": null, "moderation": null, "tools": null,
    });
    post(shared(), path, &null).ok();
    let said = json!([
        {"role": "user", "content": "hello"}, {"role": "assistant", "content": null, "refusal": "no"},
        {"role": "user", "content": "hello"},
    ]);
    post(shared(), path, &json!({"messages": said, "max_tokens": 1})).ok();
    let failing = json!({"messages": [{"role": "tool", "content": "x"}]});
    let reply = post(shared(), path, &failing);
    assert!(!reply.body.contains("assets"), "{reply:?}");
}

#[test]
fn a_name_that_is_no_text_is_no_model() {
    let reply = get(shared(), "/v1/models/%FF");
    let error = &reply.json()["error"];
    assert_eq!(
        (reply.status, &error["code"], &error["param"]),
        (404, &"model_not_found".into(), &"model".into())
    );
    let packed = [
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
    ];
    let reply = send(shared(), "POST", "/v1/chat/completions", &packed, "{}").whole();
    assert_eq!(reply.status, 415);
    assert!(reply.body.contains("gzip"), "{reply:?}");
}

#[test]
fn a_wrong_method_is_no_wrong_path() {
    let reply = send(shared(), "GET", "/v1/chat/completions", &[], "").whole();
    assert_eq!(reply.status, 405);
    assert!(
        reply
            .header("allow")
            .is_some_and(|allowed| allowed.contains("POST")),
        "{reply:?}"
    );
    assert_eq!(send(shared(), "POST", "/v1/models", &[], "").status(), 405);
}

#[test]
fn heads_are_bounded() {
    let many = (0..200)
        .map(|at| format!("x-{at}: y\r\n"))
        .collect::<String>();
    let request = format!("GET /health HTTP/1.1\r\nhost: localhost\r\n{many}\r\n");
    assert_eq!(raw(shared(), &request).status(), 431);
    let long = "y".repeat(100_000);
    let request = format!("GET /health HTTP/1.1\r\nhost: localhost\r\nx: {long}\r\n\r\n");
    assert_eq!(raw(shared(), &request).status(), 431);
}
