//! How models are called.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// Whose a model is that is named without an owner.
const DEFAULT_OWNER: &str = "mlx-community";
/// What is meant where no revision is named.
const DEFAULT_REVISION: &str = "main";

/// A repository of the hub and a revision of it: `NAME`, `OWNER/NAME` or either with `@REVISION`, which is a branch,
/// a tag or a commit. A bare name is one of mlx-community's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    owner: String,
    model: String,
    revision: Option<String>,
}

impl Name {
    /// `owner/model`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.owner, self.model)
    }

    /// The revision; `main` where none was named.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(DEFAULT_REVISION)
    }

    /// Whether one was named.
    pub fn has_revision(&self) -> bool {
        self.revision.is_some()
    }

    /// The folder of the repository in the cache.
    pub(crate) fn folder(&self) -> String {
        format!("models--{}--{}", self.owner, self.model)
    }

    /// The repository of a folder of the cache, if it is one of a model.
    pub(crate) fn of_folder(folder: &str) -> Option<Self> {
        let (owner, model) = folder.strip_prefix("models--")?.split_once("--")?;
        format!("{owner}/{model}").parse().ok()
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            Err(Error::Input(format!(
                "{text:?} is no name of a model: {why}; names are NAME, OWNER/NAME or OWNER/NAME@REVISION"
            )))
        };
        let (repository, revision) = match text.split_once('@') {
            Some((repository, revision)) => (repository, Some(revision.to_owned())),
            None => (text, None),
        };
        let (owner, model) = repository
            .split_once('/')
            .unwrap_or((DEFAULT_OWNER, repository));
        for part in [owner, model] {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if part.is_empty() || part.len() > 96 {
                return bad("a part of it is empty, or longer than 96 letters");
            }
            if !part.chars().all(plain) {
                return bad("there are only letters, digits, '-', '_' and '.' in one");
            }
            let edge = ['-', '.'];
            if part.starts_with(edge)
                || part.ends_with(edge)
                || part.contains("--")
                || part.contains("..")
            {
                return bad("'-' and '.' stand alone, and not at an end");
            }
        }
        if revision.as_deref().is_some_and(|r| !is_revision(r)) {
            return bad("its revision is none");
        }
        Ok(Self {
            owner: owner.to_owned(),
            model: model.to_owned(),
            revision,
        })
    }
}

/// Whether it can be a branch, a tag or a commit: what git allows, and no way out of a folder.
fn is_revision(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '+');
    !text.is_empty()
        && text.len() <= 200
        && text.chars().all(plain)
        && text
            .split('/')
            .all(|part| !part.is_empty() && !part.starts_with('.') && !part.contains(".."))
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.model)?;
        match &self.revision {
            Some(revision) => write!(f, "@{revision}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_of_the_mlx_community() {
        let name: Name = "Qwen3-0.6B-4bit".parse().unwrap();
        assert_eq!(name.repository(), "mlx-community/Qwen3-0.6B-4bit");
        assert_eq!(name.revision(), "main");
        assert_eq!(name.folder(), "models--mlx-community--Qwen3-0.6B-4bit");
        assert_eq!(Name::of_folder(&name.folder()), Some(name));
    }

    #[test]
    fn an_owner_and_a_revision_may_be_named() {
        let name: Name = "google/gemma-3-1b-it@refs/pr/7".parse().unwrap();
        assert_eq!(name.repository(), "google/gemma-3-1b-it");
        assert_eq!(name.revision(), "refs/pr/7");
        assert_eq!(name.to_string(), "google/gemma-3-1b-it@refs/pr/7");
    }

    #[test]
    fn what_leads_out_of_the_cache_is_no_name() {
        for wrong in [
            "", "/", "a/", "/b", "a/b/c", "../b", "a/..", "a--b", "a/b--c", "-a", "a.", "a b", "ä",
            "a\\b", "a@", "a@..", "a@x/../y", "a@/etc", "a@.git", "a@b c",
        ] {
            let error = wrong.parse::<Name>().unwrap_err().to_string();
            assert!(
                error.contains("is no name of a model"),
                "{wrong:?}: {error}"
            );
        }
        assert_eq!(Name::of_folder("datasets--a--b"), None);
    }
}
