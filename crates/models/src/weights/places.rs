//! Where the decoder, its embedding and its head are among a checkpoint's names.

use arch::Config;

use super::Checkpoint;
use crate::{Error, Result};

/// The decoder's path: plain; nested as mlx-lm, transformers or both name it; the inner model of a nested
/// one; and empty where the inner model was saved by itself.
const ROOTS: [&str; 6] = [
    "model",
    "language_model.model",
    "model.language_model",
    "model.language_model.model",
    "language_model",
    "",
];

/// Paths of the parts of a model.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// Of the decoder; empty where its layers have no prefix.
    pub(crate) root: String,
    /// Of the embedding, which may be stored as the head that is tied to it.
    pub(crate) embedding: String,
    /// Of the separate head; `None` where the embedding serves as the head.
    pub(crate) head: Option<String>,
}

impl Places {
    pub(super) fn find(config: &Config, checkpoint: &Checkpoint) -> Result<Self> {
        let has_weight = |path: &str| checkpoint.has(&join(path, "weight"));
        let model = &config.model;
        let first = model.layers.first().map(|l| &l.mixer.before.weight);
        let is_root = |root: &&str| {
            let has_first = |name| checkpoint.has(&join(root, name));
            has_weight(&join(root, &model.embedding.table.weight)) || first.is_some_and(has_first)
        };
        let Some(root) = ROOTS.into_iter().find(is_root) else {
            return Err(no_embedding(checkpoint, "model.embed_tokens"));
        };
        let embedding = join(root, &config.model.embedding.table.weight);
        let head = heads(root, &config.model.head.weight)
            .into_iter()
            .find(|path| has_weight(path));
        let tied = config.tie_word_embeddings;
        let (embedding, head) = match (has_weight(&embedding), head) {
            // Of two tensors that share their memory some writers keep one, and not always the first.
            (false, Some(head)) if tied != Some(false) => (head, None),
            (false, _) => return Err(no_embedding(checkpoint, &embedding)),
            (true, None) if tied == Some(false) => {
                (embedding, Some(config.model.head.weight.clone()))
            }
            // What the configuration says of the head, a head of its own in the files refutes: it was
            // trained apart. transformers compares the two in the same way.
            (true, Some(head)) if tied != Some(false) => {
                let equal = are_equal(checkpoint, &embedding, &head)?;
                (embedding, (!equal).then_some(head))
            }
            (true, head) => (embedding, head),
        };
        Ok(Self {
            root: root.to_owned(),
            embedding,
            head,
        })
    }
}

/// `name` below `path`, which may be empty.
pub(crate) fn join(path: &str, name: impl std::fmt::Display) -> String {
    match path {
        "" => name.to_string(),
        path => format!("{path}.{name}"),
    }
}

/// Where a decoder at `root` may have its head, the nearest first.
fn heads(root: &str, head: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let mut above = root;
    while !above.is_empty() {
        heads.push(join(above, head));
        above = above.rsplit_once('.').map_or("", |(above, _)| above);
    }
    heads.push(head.to_owned());
    heads
}

/// Whether the matrices at both paths are the same, packed or not.
fn are_equal(checkpoint: &Checkpoint, a: &str, b: &str) -> Result<bool> {
    for name in ["scales", "biases", "weight"] {
        let of = |path: &str| checkpoint.find(&join(path, name));
        let equal = match (of(a)?, of(b)?) {
            (None, None) => true,
            (Some(a), Some(b)) => checkpoint.are_equal(a, b),
            _ => false,
        };
        if !equal {
            return Ok(false);
        }
    }
    Ok(true)
}

fn no_embedding(checkpoint: &Checkpoint, path: &str) -> Error {
    Error::tensor(
        checkpoint.dir(),
        &join(path, "weight"),
        "is missing; the directory holds other weights than its config.json says",
    )
}
