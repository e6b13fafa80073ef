//! Names of files: digests of all that decides what is in them.
//!
//! A part of a sequence follows from the model, from what computes it, and from all tokens up to its end. So its name
//! is a chain of digests, a page a link: prompts that begin alike have the same names as far as they do.

use std::path::{Path, PathBuf};

use models::states::{PAGE, Part};
use sha2::{Digest, Sha256};

/// SHA-256 of what decides a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name(pub(super) [u8; 32]);

/// The names of the parts of a prompt.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    /// Behind no page, one page, and so on.
    links: Vec<[u8; 32]>,
}

impl Chain {
    /// Of all whole pages of `tokens`, for what is computed as `origin` says.
    pub(super) fn new(origin: &[u8; 32], tokens: &[u32]) -> Self {
        let mut links = vec![*origin];
        let mut last = *origin;
        for page in tokens.chunks_exact(PAGE) {
            let mut digest = Sha256::new();
            digest.update(last);
            for id in page {
                digest.update(id.to_le_bytes());
            }
            last = digest.finalize().into();
            links.push(last);
        }
        Self { links }
    }

    /// `None` behind the last page.
    pub(super) fn name(&self, part: Part) -> Option<Name> {
        let link = self.links.get(part.pages())?;
        let kind = match part {
            Part::Keys { kind, .. } => kind as u64,
            Part::Recurrent { .. } => u64::MAX,
        };
        let mut digest = Sha256::new();
        digest.update(link);
        digest.update(kind.to_le_bytes());
        Some(Name(digest.finalize().into()))
    }
}

impl Name {
    pub(super) fn path(&self, dir: &Path) -> PathBuf {
        // Half of the digest names a file; the file has all of it.
        dir.join(hex(&self.0[..16]))
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_name_says_the_model_all_tokens_up_to_it_and_the_part() {
        let tokens: Vec<u32> = (0..3 * PAGE as u32 + 7).collect();
        let chain = Chain::new(&[1; 32], &tokens);
        let mut other = tokens.clone();
        other[PAGE] += 1;
        let mut names = HashSet::new();
        let mut count = 0;
        for (origin, tokens) in [([1; 32], &tokens), ([2; 32], &tokens), ([1; 32], &other)] {
            let chain = Chain::new(&origin, tokens);
            for page in 0..3 {
                for part in [
                    Part::Keys { kind: 0, page },
                    Part::Keys { kind: 1, page },
                    Part::Recurrent { page: page + 1 },
                ] {
                    names.insert(chain.name(part).unwrap().0);
                    count += 1;
                }
            }
        }
        // The two whose first pages are alike share what is of those alone.
        assert_eq!(names.len(), count - 3);
        assert_eq!(chain.name(Part::Keys { kind: 0, page: 3 }), None);
    }
}
