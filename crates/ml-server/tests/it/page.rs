//! The page as a browser gets it; what it does there is `cargo xtask test-page`'s to see.

use crate::client::{Reply, get, send};
use crate::{config, serve, shared};

#[test]
fn it_may_ask_nobody_but_the_server_and_run_nothing_that_is_not_its_own() {
    for path in ["/", "/page/main.js", "/page/base.css"] {
        let file = get(shared(), path);
        assert_eq!(file.status, 200, "{path}");
        let header = |name: &str| file.header(name).unwrap_or_default().to_owned();
        let policy = header("content-security-policy");
        let rules: Vec<_> = policy.split(';').map(str::trim).collect();
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "img-src 'self' data:",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
        ] {
            assert!(rules.contains(&rule), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "no-referrer");
    }
    // Not a script, not a style stands in the page itself, where the policy would refuse it.
    let page = get(shared(), "/").body;
    for inside in [
        "<style",
        " style=",
        " onclick=",
        "javascript:",
        "http://",
        "https://",
    ] {
        let known = "xmlns='http://www.w3.org/2000/svg'";
        assert!(!page.replace(known, "").contains(inside), "{inside}");
    }
}

#[test]
fn files_have_their_kind_and_are_asked_for_again_by_their_tag() {
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/page/store.js", "text/javascript; charset=utf-8"),
        ("/page/chat.css", "text/css; charset=utf-8"),
    ] {
        let file = get(shared(), path);
        assert_eq!(file.header("content-type"), Some(kind));
        assert_eq!(file.header("cache-control"), Some("no-cache"));
        let tag = file.header("etag").expect("a tag").to_owned();
        let ask = |tag: &str| send(shared(), "GET", path, &[("if-none-match", tag)], "").whole();
        let same = ask(&format!("\"other\", {tag}"));
        assert_eq!((same.status, same.body.as_str()), (304, ""));
        assert_eq!(same.header("etag"), Some(tag.as_str()));
        assert!(same.header("content-security-policy").is_some());
        let other = ask("\"other\"");
        assert_eq!((other.status, other.body), (200, file.body));
    }
    let tag = |path: &str| get(shared(), path).header("etag").map(str::to_owned);
    assert_ne!(tag("/page/chat.css"), tag("/page/base.css"));
}

/// A head without a body, however long the body would be.
fn head(path: &str) -> (u16, String) {
    let answer = send(shared(), "HEAD", path, &[], "");
    (answer.status(), answer.head)
}

#[test]
fn a_head_has_no_body_and_nothing_else_is_there() {
    let length = get(shared(), "/").body.len();
    let (status, head) = head("/");
    assert_eq!(status, 200);
    assert!(
        head.contains(&format!("content-length: {length}\r\n")),
        "{head}"
    );
    let missing = |path: &str| -> Reply { get(shared(), path) };
    for path in [
        "/page",
        "/page/",
        "/page/index.html",
        "/page/../Cargo.toml",
        "/page/%2e%2e/Cargo.toml",
        "/page/main.js/",
        "/operator",
        "/index.html",
    ] {
        let reply = missing(path);
        assert_eq!(reply.status, 404, "{path}");
        assert_eq!(reply.json()["error"]["code"], "not_found", "{path}");
    }
    assert_eq!(send(shared(), "POST", "/", &[], "").status(), 405);
}

#[test]
fn the_page_needs_no_key_but_the_right_host() {
    let mut locked = config();
    locked.keys = vec!["k1".into()];
    let address = serve(locked).address;
    for path in ["/", "/page/main.js"] {
        assert_eq!(get(address, path).status, 200, "{path}");
        let evil = [("host", "evil.example")];
        assert_eq!(send(address, "GET", path, &evil, "").status(), 403);
    }
    for path in ["/v1/models", "/metrics", "/page/none.js"] {
        assert_eq!(get(address, path).status, 401, "{path}");
    }
}

#[test]
fn metrics_tell_the_memory_once_a_model_is_loaded() {
    crate::direct();
    let text = get(shared(), "/metrics").body;
    let figure = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse::<u64>().ok())
    };
    let models = figure("ml:memory_models_bytes ").expect(&text);
    // The demo's weights are 3.3 MB.
    assert!(models > 2_000_000, "{models}");
    if cfg!(target_os = "linux") {
        assert!(figure("process_resident_memory_bytes ").expect(&text) > models);
    }
}
