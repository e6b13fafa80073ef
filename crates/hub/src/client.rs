//! HTTP as the hub speaks it: redirects, a token for the hub alone, and a second try.

use std::io::Read;
use std::ops::Range;
use std::thread;
use std::time::Duration;

use ureq::http::HeaderMap;
use ureq::{Agent, Body};

use crate::{Error, Name, Result, Settings};

/// How often a request is made before it has failed.
const ATTEMPTS: u32 = 5;
const MOST_REDIRECTS: usize = 10;
/// Without a byte for so long a connection is given up.
const SILENCE: Duration = Duration::from_secs(60);
/// The longest that a server may have us wait, in pauses.
const MOST_PAUSES: u32 = 60;

pub(crate) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
    pause: Duration,
}

/// An answer whose body is yet to be read.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    /// Who answered, behind all redirects.
    pub(crate) url: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// What one attempt may come to.
pub(crate) enum Failed {
    /// Another may do better, after so long at the least.
    Now {
        reason: String,
        wait: Option<Duration>,
    },
    /// None will.
    Forever(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Forever(error)
    }
}

impl Client {
    pub(crate) fn new(settings: &Settings) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(SILENCE))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .user_agent(concat!("ml/", env!("CARGO_PKG_VERSION")))
            .max_idle_connections_per_host(16)
            .build();
        Self {
            agent: config.into(),
            endpoint: settings.endpoint.clone(),
            token: settings.token.clone(),
            pause: settings.pause,
        }
    }

    /// The address of a revision's list of files.
    pub(crate) fn list_url(&self, name: &Name) -> String {
        let revision = escaped(name.revision(), false);
        format!(
            "{}/api/models/{}/revision/{revision}?blobs=true",
            self.endpoint,
            name.repository()
        )
    }

    /// The address of a file.
    pub(crate) fn file_url(&self, name: &Name, commit: &str, path: &str) -> String {
        format!(
            "{}/{}/resolve/{commit}/{}",
            self.endpoint,
            name.repository(),
            escaped(path, true)
        )
    }

    /// Tries `what` until it succeeds or has failed for good.
    pub(crate) fn try_again<T>(
        &self,
        url: &str,
        mut what: impl FnMut() -> std::result::Result<T, Failed>,
    ) -> Result<T> {
        let mut pause = self.pause;
        let mut tries = 0;
        loop {
            tries += 1;
            match what() {
                Ok(done) => return Ok(done),
                Err(Failed::Forever(error)) => return Err(error),
                Err(Failed::Now { reason, .. }) if tries == ATTEMPTS => {
                    let url = without_query(url).to_owned();
                    return Err(Error::Connection { url, reason });
                }
                Err(Failed::Now { wait, .. }) => {
                    let most = self.pause * MOST_PAUSES;
                    thread::sleep(wait.unwrap_or(pause).max(pause).min(most));
                    pause *= 2;
                }
            }
        }
    }

    /// Asks once, for a `range` of bytes if there is one. What it gives has a status below 300, or, of a `head`, what is
    /// asked for.
    pub(crate) fn ask(
        &self,
        name: &Name,
        url: &str,
        head: bool,
        range: Option<Range<u64>>,
    ) -> std::result::Result<Reply, Failed> {
        let mut url = url.to_owned();
        for _ in 0..MOST_REDIRECTS {
            let mut request = match head {
                true => self.agent.head(&url),
                false => self.agent.get(&url),
            }
            .header("accept-encoding", "identity");
            if let Some(range) = &range {
                request =
                    request.header("range", format!("bytes={}-{}", range.start, range.end - 1));
            }
            if let Some(token) = &self.token
                && origin(&url) == origin(&self.endpoint)
            {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let response = request.call().map_err(|error| Failed::Now {
                reason: error.to_string(),
                wait: None,
            })?;
            let (parts, body) = response.into_parts();
            let reply = Reply {
                status: parts.status.as_u16(),
                headers: parts.headers,
                body,
                url: url.clone(),
            };
            match reply.status {
                200..=299 => return Ok(reply),
                // The hub tells itself what a file is that lies elsewhere.
                300..=399 if head && reply.header("x-linked-etag").is_some() => return Ok(reply),
                301 | 302 | 303 | 307 | 308 => url = next(&url, reply.header("location"))?,
                408 | 429 | 500 | 502 | 503 | 504 => {
                    let wait = reply
                        .header("retry-after")
                        .and_then(|text| text.parse().ok());
                    return Err(Failed::Now {
                        reason: format!("HTTP status {}", reply.status),
                        wait: wait.map(Duration::from_secs),
                    });
                }
                // Addresses that the hub leads to hold for a while only.
                _ if origin(&url) != origin(&self.endpoint) => {
                    return Err(Failed::Now {
                        reason: format!("HTTP status {} behind the hub", reply.status),
                        wait: None,
                    });
                }
                _ => return Err(self.refused(name, &reply).into()),
            }
        }
        Err(Failed::Forever(Error::Protocol {
            url: without_query(&url).to_owned(),
            reason: format!("more than {MOST_REDIRECTS} redirects"),
        }))
    }

    /// The body of a small answer.
    pub(crate) fn get(
        &self,
        name: &Name,
        url: &str,
        range: Option<Range<u64>>,
        most: u64,
    ) -> Result<Vec<u8>> {
        self.try_again(url, || {
            let reply = self.ask(name, url, false, range.clone())?;
            let told: Option<u64> = reply.header("content-length").and_then(|n| n.parse().ok());
            let mut bytes = Vec::new();
            let read = reply
                .body
                .into_reader()
                .take(most + 1)
                .read_to_end(&mut bytes);
            read.map_err(|error| Failed::Now {
                reason: error.to_string(),
                wait: None,
            })?;
            if bytes.len() as u64 > most {
                return Err(Failed::Forever(Error::Protocol {
                    url: without_query(url).to_owned(),
                    reason: format!("more than {most} bytes"),
                }));
            }
            match told {
                Some(told) if told != bytes.len() as u64 => Err(Failed::Now {
                    reason: format!("the connection ended after {} of {told} bytes", bytes.len()),
                    wait: None,
                }),
                _ => Ok(bytes),
            }
        })
    }

    /// What a status means for a model.
    fn refused(&self, name: &Name, reply: &Reply) -> Error {
        let repository = name.repository();
        let page = format!("{}/{repository}", self.endpoint);
        let token = match self.token {
            Some(_) => "the token (HF_TOKEN) does not allow it",
            None => "it needs a token: set HF_TOKEN",
        };
        let code = reply.header("x-error-code").unwrap_or_default();
        Error::Refused(match (code, reply.status) {
            ("GatedRepo", _) | (_, 403) => {
                format!("{repository} is not for everybody: ask for access at {page}; {token}")
            }
            ("RevisionNotFound", _) => {
                format!("{repository} has no revision {:?}", name.revision())
            }
            ("EntryNotFound", _) => {
                format!("{repository} has no such file any more: {}", reply.url)
            }
            ("RepoNotFound", _) | (_, 401 | 404) => format!(
                "the hub has no model {repository}, or {}; look at {page}",
                match self.token {
                    Some(_) => "not for this token",
                    None => "not without a token (HF_TOKEN)",
                }
            ),
            (_, status) => format!(
                "{} answered with HTTP status {status}",
                without_query(&reply.url)
            ),
        })
    }
}

/// Where a redirect leads. Never from an encrypted connection to a plain one.
fn next(url: &str, location: Option<&str>) -> Result<String> {
    let wrong = |reason: String| Error::Protocol {
        url: without_query(url).to_owned(),
        reason,
    };
    let location = location.ok_or_else(|| wrong("a redirect to nowhere".to_owned()))?;
    let next = match location.starts_with('/') && !location.starts_with("//") {
        true => format!("{}{location}", origin(url)),
        false => location.to_owned(),
    };
    let encrypted = next.starts_with("https://");
    match encrypted || next.starts_with("http://") && !url.starts_with("https://") {
        true => Ok(next),
        false => Err(wrong(format!("a redirect to {:?}", without_query(&next)))),
    }
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> &str {
    let after = url.find("://").map_or(0, |at| at + 3);
    let end = url[after..]
        .find(['/', '?', '#'])
        .map_or(url.len(), |at| after + at);
    &url[..end]
}

/// Without what may be a signature.
pub(crate) fn without_query(url: &str) -> &str {
    url.split('?').next().unwrap_or(url)
}

/// A part of a path, as addresses have it.
fn escaped(text: &str, keep_slashes: bool) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(byte.into())
            }
            b'/' if keep_slashes => escaped.push('/'),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_stays_encrypted() {
        let next = |url: &str, to: &str| next(url, Some(to)).ok();
        let hub = "https://hub/a/b?c";
        assert_eq!(next(hub, "/d").as_deref(), Some("https://hub/d"));
        assert_eq!(next(hub, "https://cdn/d").as_deref(), Some("https://cdn/d"));
        assert_eq!(next(hub, "http://cdn/d"), None);
        assert_eq!(next(hub, "//cdn/d"), None);
        assert_eq!(next(hub, "file:///etc/passwd"), None);
        assert_eq!(
            next("http://hub/a", "http://cdn/d").as_deref(),
            Some("http://cdn/d")
        );
    }

    #[test]
    fn an_origin_has_a_port_and_a_path_is_escaped() {
        assert_eq!(origin("https://hub:8/a?b"), "https://hub:8");
        assert_eq!(origin("https://hub"), "https://hub");
        assert_eq!(escaped("refs/pr/7", false), "refs%2Fpr%2F7");
        assert_eq!(escaped("1_Pooling/a b.json", true), "1_Pooling/a%20b.json");
    }
}
