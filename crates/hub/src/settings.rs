//! Where the hub and its cache are, as `huggingface_hub` takes it from the environment.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Error, Result};

/// Where to fetch from and to. Proxies are those of `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`.
#[derive(Clone)]
#[non_exhaustive]
pub struct Settings {
    /// The hub's address, without a slash at its end: `HF_ENDPOINT`.
    pub endpoint: String,
    /// The folder of the cache: `HF_HUB_CACHE`, else `hub` in `HF_HOME`, which is by default
    /// `~/.cache/huggingface`.
    pub cache: PathBuf,
    /// Who asks: `HF_TOKEN`, else what the file `HF_TOKEN_PATH` or `token` in `HF_HOME` holds. It is sent to the hub
    /// and to nobody that it leads to.
    pub token: Option<String>,
    /// Whether nothing may be fetched: `HF_HUB_OFFLINE`.
    pub offline: bool,
    /// How long to wait before a failed request is tried again; twice as long each time.
    pub pause: Duration,
    /// Bytes of the pieces in which files are fetched, eight at a time.
    pub piece: u64,
}

impl Settings {
    /// What the environment says.
    ///
    /// # Errors
    /// Where neither it nor a home directory tells of a cache, and for an endpoint that is no address.
    pub fn from_env() -> Result<Self> {
        Self::of(&|name| env::var_os(name).filter(|value| !value.is_empty()))
    }

    /// A hub and a cache, without a token.
    pub fn at(endpoint: &str, cache: impl Into<PathBuf>) -> Self {
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache: cache.into(),
            token: None,
            offline: false,
            pause: Duration::from_secs(1),
            piece: 32 << 20,
        }
    }

    fn of(var: &dyn Fn(&str) -> Option<OsString>) -> Result<Self> {
        let text = |name: &str| var(name).and_then(|value| value.into_string().ok());
        let path = |name: &str| var(name).map(|value| under_home(value.into(), var));
        let home = path("HF_HOME").or_else(|| {
            let caches = path("XDG_CACHE_HOME")
                .or_else(|| Some(PathBuf::from(var("HOME")?).join(".cache")))?;
            Some(caches.join("huggingface"))
        });
        let cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(home.as_ref()?.join("hub")))
            .ok_or_else(|| {
                Error::Input(
                    "there is no folder for models: set HF_HUB_CACHE, HF_HOME or HOME".to_owned(),
                )
            })?;
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        if !endpoint.starts_with("https://") && !endpoint.starts_with("http://") {
            return Err(Error::Input(format!(
                "HF_ENDPOINT is {endpoint:?}, and must be an address such as https://huggingface.co"
            )));
        }
        let file = || {
            let path = path("HF_TOKEN_PATH").or_else(|| Some(home.as_ref()?.join("token")))?;
            fs::read_to_string(path).ok()
        };
        let implicit = !text("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(|value| is_true(&value));
        let token = text("HF_TOKEN").or_else(|| if implicit { file() } else { None });
        let token = token.map(|token| token.trim().to_owned());
        let token = token.filter(|token| !token.is_empty());
        if token
            .as_deref()
            .is_some_and(|t| !t.chars().all(|c| c.is_ascii_graphic()))
        {
            return Err(Error::Input(
                "the token for the hub has blanks or other odd letters in it; look at HF_TOKEN"
                    .to_owned(),
            ));
        }
        let offline = text("HF_HUB_OFFLINE").or_else(|| text("TRANSFORMERS_OFFLINE"));
        Ok(Self {
            token,
            offline: offline.is_some_and(|value| is_true(&value)),
            ..Self::at(&endpoint, cache)
        })
    }
}

impl std::fmt::Debug for Settings {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("token", &self.token.is_some())
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

fn is_true(value: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str())
}

/// A path whose `~` is the home directory.
fn under_home(path: PathBuf, var: &dyn Fn(&str) -> Option<OsString>) -> PathBuf {
    match (path.strip_prefix("~"), var("HOME")) {
        (Ok(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Settings> {
        Settings::of(&|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_cache_is_where_huggingface_hub_has_it() {
        let cache = |variables: &[(&str, &str)]| of(variables).unwrap().cache;
        let home = ("HOME", "/h");
        assert_eq!(cache(&[home]), PathBuf::from("/h/.cache/huggingface/hub"));
        let xdg = ("XDG_CACHE_HOME", "/x");
        assert_eq!(cache(&[home, xdg]), PathBuf::from("/x/huggingface/hub"));
        let own = ("HF_HOME", "~/own");
        assert_eq!(cache(&[home, xdg, own]), PathBuf::from("/h/own/hub"));
        let hub = ("HF_HUB_CACHE", "/models");
        assert_eq!(cache(&[home, own, hub]), PathBuf::from("/models"));
        assert!(of(&[]).is_err());
    }

    #[test]
    fn who_asks_is_told_by_a_variable_or_a_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("token"), "hf_file\n").unwrap();
        let home = ("HF_HOME", dir.path().to_str().unwrap());
        let token = |variables: &[(&str, &str)]| of(variables).unwrap().token;
        assert_eq!(token(&[home]).as_deref(), Some("hf_file"));
        assert_eq!(
            token(&[home, ("HF_TOKEN", "hf_own")]).as_deref(),
            Some("hf_own")
        );
        assert_eq!(token(&[home, ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        let error = of(&[home, ("HF_TOKEN", "two words")]).unwrap_err();
        assert!(!error.to_string().contains("two words"));
        let settings = of(&[home]).unwrap();
        assert!(!format!("{settings:?}").contains("hf_file"));
    }

    #[test]
    fn an_endpoint_is_an_address() {
        let home = ("HOME", "/h");
        assert_eq!(of(&[home]).unwrap().endpoint, "https://huggingface.co");
        let own = of(&[home, ("HF_ENDPOINT", "http://127.0.0.1:8/")]).unwrap();
        assert_eq!(own.endpoint, "http://127.0.0.1:8");
        assert!(of(&[home, ("HF_ENDPOINT", "huggingface.co")]).is_err());
        assert!(of(&[home, ("HF_HUB_OFFLINE", "yes")]).unwrap().offline);
    }
}
