//! API keys.

use std::hint::black_box;

use axum::http::{HeaderMap, StatusCode, header};

use crate::errors::{ApiError, Result};

/// The keys that open the server; none is open.
pub(crate) struct Keys(Vec<String>);

impl Keys {
    pub(crate) fn new(keys: Vec<String>) -> Self {
        Self(keys)
    }

    /// Looks for a key where OpenAI's clients (`Authorization: Bearer`) and Anthropic's (`x-api-key`) put it.
    ///
    /// # Errors
    /// 401 for none and for a wrong one.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let bearer = headers
            .get(header::AUTHORIZATION)
            .map(|value| value.as_bytes());
        let bearer = bearer.and_then(|value| match value.split_at_checked(7) {
            Some((scheme, key)) if scheme.eq_ignore_ascii_case(b"bearer ") => Some(key),
            _ => None,
        });
        let other = headers.get("x-api-key").map(|value| value.as_bytes());
        let shown: Vec<_> = [bearer, other].into_iter().flatten().collect();
        if shown.iter().any(|key| self.holds(key)) {
            return Ok(());
        }
        let message = match shown.is_empty() {
            true => {
                "this server asks for a key; send it as 'Authorization: Bearer KEY' or 'x-api-key: KEY'"
            }
            false => "the key is wrong",
        };
        Err(ApiError::new(StatusCode::UNAUTHORIZED, message).code("invalid_api_key"))
    }

    /// Takes the same time for every wrong key of a length: all keys are looked at to their ends.
    fn holds(&self, shown: &[u8]) -> bool {
        let same = self.0.iter().map(|key| equal(key.as_bytes(), shown));
        same.fold(false, |any, this| any | this)
    }
}

fn equal(key: &[u8], shown: &[u8]) -> bool {
    let mut difference = key.len() ^ shown.len();
    for (at, byte) in shown.iter().enumerate() {
        // A key is never empty; past its end it is begun again, and the length differs anyway.
        let own = key.get(at % key.len().max(1)).copied().unwrap_or(0);
        difference |= usize::from(black_box(own ^ byte));
    }
    black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn check(name: &'static str, value: &'static str) -> bool {
        let keys = Keys::new(vec!["first-key".into(), "second".into()]);
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        keys.check(&headers).is_ok()
    }

    #[test]
    fn each_key_opens_in_both_headers() {
        assert!(check("authorization", "Bearer first-key"));
        assert!(check("authorization", "bearer second"));
        assert!(check("x-api-key", "second"));
        let wrong = [
            "",
            "Bearer",
            "Bearer ",
            "Bearer secon",
            "Bearer secondsecond",
            "Basic second",
        ];
        for value in wrong {
            assert!(!check("authorization", value), "{value:?}");
        }
        assert!(Keys::new(Vec::new()).check(&HeaderMap::new()).is_ok());
    }
}
