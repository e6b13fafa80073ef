//! The page: files that are part of the binary, at `/` and under `/page/`.
//!
//! A browser that has a file asks whether it is still the same (`ETag`), so that a new server is never shown through an
//! old page. The page may load and ask nothing but this server, and no markup that a model writes could do anything:
//! the policy allows no script and no style but these files, and no text to become markup.

use std::sync::LazyLock;

use axum::body::Body;
use axum::extract::OriginalUri;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};

struct File {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

macro_rules! files {
    ($($path:literal $kind:ident $name:literal,)*) => {
        [$(File { path: $path, kind: $kind, text: include_str!(concat!("../../page/", $name)) }),*]
    };
}

const FILES: [File; 21] = files! {
    "/" HTML "index.html",
    "/page/base.css" CSS "base.css",
    "/page/chat.css" CSS "chat.css",
    "/page/operator.css" CSS "operator.css",
    "/page/answer.js" JS "answer.js",
    "/page/api.js" JS "api.js",
    "/page/blocks.js" JS "blocks.js",
    "/page/chat.js" JS "chat.js",
    "/page/dialogs.js" JS "dialogs.js",
    "/page/dom.js" JS "dom.js",
    "/page/inline.js" JS "inline.js",
    "/page/main.js" JS "main.js",
    "/page/markdown.js" JS "markdown.js",
    "/page/message.js" JS "message.js",
    "/page/models.js" JS "models.js",
    "/page/operator.js" JS "operator.js",
    "/page/plot.js" JS "plot.js",
    "/page/prometheus.js" JS "prometheus.js",
    "/page/sidebar.js" JS "sidebar.js",
    "/page/store.js" JS "store.js",
    "/page/theme.js" JS "theme.js",
};

/// What the page may do: load its own files, ask this server, and have pictures that are part of them. No other page
/// may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; \
    require-trusted-types-for 'script'";

/// Headers of every file.
const HEADERS: [(&str, &str); 6] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    // It may be kept, and is asked for each time.
    ("cache-control", "no-cache"),
];

/// The tag of each file, by its bytes.
static TAGS: LazyLock<[HeaderValue; FILES.len()]> = LazyLock::new(|| {
    FILES.each_ref().map(|file| {
        let tag = format!("\"{:016x}\"", digest(file.text.as_bytes()));
        HeaderValue::from_str(&tag).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
    })
});

/// FNV-1a, 64 bits: it tells versions of a file apart, and guards nothing.
fn digest(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// The paths of the page. Whoever has no key yet may have them, too: the page is what asks for one.
pub(crate) fn paths() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|file| file.path)
}

/// A file, or 304 without it where the browser has the same.
pub(super) async fn file(OriginalUri(uri): OriginalUri, asked: HeaderMap) -> Response<Body> {
    let mut found = FILES.iter().zip(TAGS.iter());
    let Some((file, tag)) = found.find(|(file, _)| file.path == uri.path()) else {
        return super::no_such_path(OriginalUri(uri)).await;
    };
    let same = asked
        .get(header::IF_NONE_MATCH)
        .is_some_and(|known| names(known, tag));
    let mut response = Response::new(match same {
        true => Body::empty(),
        false => Body::from(file.text),
    });
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(header::ETAG, tag.clone());
    match same {
        true => *response.status_mut() = StatusCode::NOT_MODIFIED,
        false => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.kind));
        }
    }
    response
}

/// Whether a list of tags names this one. Proxies that compress make weak ones of them.
fn names(list: &HeaderValue, tag: &HeaderValue) -> bool {
    let list = list.to_str().unwrap_or_default();
    let tag = tag.to_str().unwrap_or_default();
    let mut tags = list.split(',').map(str::trim);
    tags.any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_served_and_asks_for_nothing_that_is_not() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
        let names = folder
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        let names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        assert_eq!(names.len(), FILES.len());
        for file in &FILES {
            let addresses = file
                .text
                .split(['"', '\''])
                .filter(|text| text.starts_with("/page/"));
            let modules = file
                .text
                .lines()
                .filter_map(|line| line.split_once(" from \"./"));
            let modules =
                modules.map(|(_, rest)| format!("/page/{}", rest.trim_end_matches(['"', ';'])));
            for wanted in addresses.map(str::to_owned).chain(modules) {
                assert!(
                    paths().any(|path| path == wanted),
                    "{}: {wanted}",
                    file.path
                );
            }
        }
    }

    #[test]
    fn a_tag_is_known_among_others_and_weak() {
        let tag = HeaderValue::from_static("\"a\"");
        for known in ["\"a\"", "\"b\", \"a\"", "W/\"a\"", "*"] {
            assert!(names(&HeaderValue::from_static(known), &tag), "{known}");
        }
        for other in ["\"b\"", "a", ""] {
            assert!(!names(&HeaderValue::from_static(other), &tag), "{other}");
        }
    }
}
