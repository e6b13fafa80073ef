//! What a blob of the hub is named by, and known by.

use std::fmt::Write as _;
use std::io::{self, Read};

use sha1::{Digest as _, Sha1};
use sha2::Sha256;

use crate::{Error, Result};

/// Of a large file the SHA-256 of its bytes; of what git itself holds, git's own SHA-1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Digest {
    Sha256(String),
    Git(String),
    /// Of another hub than that of Hugging Face: a name, and nothing to check.
    Unknown(String),
}

impl Digest {
    /// What an ETag names, quoted or not.
    pub(crate) fn of_etag(etag: &str) -> Result<Self> {
        let etag = etag.trim_start_matches("W/").trim_matches('"');
        let hex = etag.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
        match etag.len() {
            64 if hex => Ok(Self::Sha256(etag.to_owned())),
            40 if hex => Ok(Self::Git(etag.to_owned())),
            1..=200
                if etag
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') =>
            {
                Ok(Self::Unknown(etag.to_owned()))
            }
            _ => Err(Error::Input(format!(
                "{etag:?} is no name of a file's content"
            ))),
        }
    }

    /// The name of its file among the blobs.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Sha256(name) | Self::Git(name) | Self::Unknown(name) => name,
        }
    }

    /// What the `size` bytes of `content` have in its place. What cannot be checked is taken for right.
    pub(crate) fn found(&self, content: &mut dyn Read, size: u64) -> io::Result<String> {
        let mut buffer = vec![0; 1 << 20];
        let mut each = |update: &mut dyn FnMut(&[u8])| -> io::Result<()> {
            loop {
                match content.read(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(count) => update(&buffer[..count]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        };
        match self {
            Self::Sha256(_) => {
                let mut state = Sha256::new();
                each(&mut |bytes| state.update(bytes))?;
                Ok(hex(&state.finalize()))
            }
            Self::Git(_) => {
                let mut state = Sha1::new();
                state.update(format!("blob {size}\0"));
                each(&mut |bytes| state.update(bytes))?;
                Ok(hex(&state.finalize()))
            }
            Self::Unknown(name) => Ok(name.clone()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_git_and_sha256sum() {
        let found = |etag: &str| {
            let digest = Digest::of_etag(etag).unwrap();
            let found = digest.found(&mut &b"hello\n"[..], 6).unwrap();
            assert_eq!(found, digest.name());
        };
        // `git hash-object` and `sha256sum` of a file with "hello".
        found("\"ce013625030ba8dba906f756967f9e9ca394464a\"");
        found("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
    }

    #[test]
    fn a_name_of_a_blob_is_no_path() {
        for wrong in ["", "\"\"", "../x", "a/b", "W/\"a b\""] {
            assert!(Digest::of_etag(wrong).is_err(), "{wrong:?}");
        }
    }
}
