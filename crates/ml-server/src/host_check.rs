//! Which pages may talk to the server.
//!
//! A page of another site can make a browser send requests here. Its browser then says so in `Origin`; and if the
//! page's own name was made to point here (DNS rebinding), the `Host` is that name. So the host must be an address,
//! `localhost` or a name that the operator gave, and an origin must be the host itself or one that was allowed.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};

use crate::errors::{ApiError, Result};

pub(crate) struct Hosts {
    names: Vec<String>,
    origins: Vec<String>,
}

impl Hosts {
    pub(crate) fn new(names: Vec<String>, origins: Vec<String>) -> Self {
        let trimmed = |origin: String| origin.trim_end_matches('/').to_owned();
        Self {
            names,
            origins: origins.into_iter().map(trimmed).collect(),
        }
    }

    /// The origin whose page may read the answer, where the request names one of another site.
    ///
    /// # Errors
    /// 400 for no host, 403 for one that is not ours and for an origin that is not allowed.
    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<Option<HeaderValue>> {
        let host = host(uri, headers)?;
        if !self.is_ours(&host) {
            let message = format!(
                "the host {host:?} is not this server's; ask for localhost or an address, or start the server with --allow-host"
            );
            return Err(ApiError::new(StatusCode::FORBIDDEN, message).code("host_not_allowed"));
        }
        let Some(origin) = headers.get(header::ORIGIN) else {
            return Ok(None);
        };
        let text = origin.to_str().unwrap_or_default();
        let site = text
            .strip_prefix("http://")
            .or(text.strip_prefix("https://"));
        if site.is_some_and(|site| site.eq_ignore_ascii_case(&host)) {
            return Ok(None);
        }
        let allowed = self.origins.iter();
        if allowed
            .clone()
            .any(|one| one == "*" || one.eq_ignore_ascii_case(text))
        {
            return Ok(Some(origin.clone()));
        }
        let message = format!(
            "pages of {text:?} may not send requests here; start the server with --allow-origin to let them"
        );
        Err(ApiError::new(StatusCode::FORBIDDEN, message).code("origin_not_allowed"))
    }

    fn is_ours(&self, host: &str) -> bool {
        let name = without_port(host);
        let address = name.trim_start_matches('[').trim_end_matches(']');
        let given = self.names.iter();
        name.eq_ignore_ascii_case("localhost")
            || address.parse::<IpAddr>().is_ok()
            || given
                .clone()
                .any(|own| own.eq_ignore_ascii_case(name) || own.eq_ignore_ascii_case(host))
    }
}

/// The host that a request is for, with its port.
fn host(uri: &Uri, headers: &HeaderMap) -> Result<String> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let one = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        _ => None,
    };
    // A whole address in the request's line counts before the header, as HTTP has it.
    let host = uri.authority().map(|authority| authority.as_str()).or(one);
    let host = host.filter(|host| !host.is_empty() && !host.contains('@'));
    host.map(str::to_owned)
        .ok_or_else(|| ApiError::bad("a request needs one Host header"))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') =>
        {
            name
        }
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &'static str, origin: Option<&'static str>) -> Result<Option<HeaderValue>> {
        let hosts = Hosts::new(vec!["box.lan".into()], vec!["https://chat.example/".into()]);
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static(host));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        }
        hosts.check(&Uri::from_static("/v1/models"), &headers)
    }

    #[test]
    fn a_name_that_was_made_to_point_here_is_refused() {
        let ours = [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:8080",
            "[::1]:8080",
            "[::1]",
            "10.0.0.7",
            "box.lan:80",
        ];
        for host in ours {
            assert!(check(host, None).is_ok(), "{host}");
        }
        let others = [
            "evil.example",
            "localhost.evil.example:8080",
            "127.0.0.1.evil.example",
            "",
            "a@localhost",
        ];
        for host in others {
            assert!(check(host, None).is_err(), "{host}");
        }
    }

    #[test]
    fn a_page_of_another_site_is_refused_unless_told() {
        assert_eq!(
            check("localhost:80", Some("http://localhost:80")).unwrap(),
            None
        );
        let allowed = check("localhost:80", Some("https://chat.example")).unwrap();
        assert_eq!(allowed.unwrap(), "https://chat.example");
        for origin in [
            "null",
            "http://evil.example",
            "http://localhost:81",
            "https://chat.example.evil",
            "",
        ] {
            assert!(check("localhost:80", Some(origin)).is_err(), "{origin}");
        }
    }
}
