//! What a repository holds, and what of it a model needs.

use serde::Deserialize;

use crate::digest::Digest;
use crate::{Error, Result};

/// A revision of a repository.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The commit that the revision names now.
    pub commit: String,
    /// Its files that a model needs.
    pub files: Vec<RemoteFile>,
    /// Bytes of those that it does not.
    pub left_out: u64,
}

impl Listing {
    /// Bytes of all files that a model needs.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// A file of a repository.
#[derive(Clone, Debug)]
pub struct RemoteFile {
    /// Its path in the repository.
    pub path: String,
    /// In bytes.
    pub size: u64,
    pub(crate) digest: Digest,
}

impl RemoteFile {
    /// Whether it has weights.
    pub fn has_weights(&self) -> bool {
        self.path.ends_with(".safetensors")
    }
}

/// The hub's answer, as far as it matters.
#[derive(Deserialize)]
pub(crate) struct Answer {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: Option<u64>,
}

/// A file of which the hub's list may not tell everything.
pub(crate) struct Listed {
    pub(crate) path: String,
    pub(crate) size: Option<u64>,
    pub(crate) digest: Option<Digest>,
}

impl Answer {
    /// The commit, and the files that a model needs.
    pub(crate) fn needed(self) -> Result<(String, Vec<Listed>, u64)> {
        let hex = self.sha.chars().all(|c| c.is_ascii_hexdigit());
        if self.sha.is_empty() || !hex {
            return Err(Error::Input(format!("{:?} is no commit", self.sha)));
        }
        let paths: Vec<String> = self.siblings.iter().map(|s| s.rfilename.clone()).collect();
        let mut left_out = 0;
        let mut files = Vec::new();
        for sibling in self.siblings {
            let size = sibling
                .lfs
                .as_ref()
                .and_then(|lfs| lfs.size)
                .or(sibling.size);
            if !is_needed(&sibling.rfilename, &paths) {
                left_out += size.unwrap_or(0);
                continue;
            }
            if !is_inside(&sibling.rfilename) {
                return Err(Error::Input(format!(
                    "{:?} is a path out of the repository",
                    sibling.rfilename
                )));
            }
            let name = sibling.lfs.map(|lfs| lfs.sha256).or(sibling.blob);
            files.push(Listed {
                path: sibling.rfilename,
                size,
                digest: name.map(|name| Digest::of_etag(&name)).transpose()?,
            });
        }
        Ok((self.sha, files, left_out))
    }
}

/// Whether a path stays in the folder that it is of.
fn is_inside(path: &str) -> bool {
    let good = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= 255;
    path.split('/').all(good) && !path.contains(['\\', '\0', ':'])
}

/// Whether a model that has the files `all` needs this one: its weights, its descriptions, its template; and the
/// same of the modules of a model that embeds.
fn is_needed(path: &str, all: &[String]) -> bool {
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    // Modules have folders such as `1_Pooling`; others hold the same weights in other forms.
    let module = || {
        let number = folder.split_once('_').map(|(number, _)| number);
        let has_modules = all.iter().any(|other| other == "modules.json");
        has_modules
            && number.is_some_and(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit()))
    };
    // Of templates by name there may be several, in a folder of their own.
    let templates = folder == "additional_chat_templates" && file.ends_with(".jinja");
    if !folder.is_empty() && !module() {
        return templates;
    }
    let whole = ["merges.txt", "vocab.txt"].contains(&file);
    let weights = file.ends_with(".safetensors");
    // Mistral's own form of the same weights, and adapters.
    let other_form = file.starts_with("consolidated") || file.starts_with("adapter");
    (weights && !other_form) || file.ends_with(".json") || file.ends_with(".jinja") || whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needed(paths: &[&str]) -> Vec<String> {
        let siblings: Vec<_> = paths
            .iter()
            .map(|path| serde_json::json!({"rfilename": path, "size": 3, "blobId": "0".repeat(40)}))
            .collect();
        let answer = serde_json::json!({"sha": "ab12", "siblings": siblings});
        let answer: Answer = serde_json::from_value(answer).unwrap();
        let (_, files, _) = answer.needed().unwrap();
        files.into_iter().map(|file| file.path).collect()
    }

    #[test]
    fn a_model_needs_its_weights_and_descriptions() {
        let all = [
            ".gitattributes",
            "README.md",
            "config.json",
            "model-00001-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
            "tokenizer.model",
            "chat_template.jinja",
            "merges.txt",
            "pytorch_model.bin",
            "original/model.safetensors",
            "onnx/model.onnx",
            "consolidated.safetensors",
            "model.gguf",
            "1_Pooling/config.json",
        ];
        assert_eq!(
            needed(&all),
            [
                "config.json",
                "model-00001-of-00002.safetensors",
                "model.safetensors.index.json",
                "tokenizer.json",
                "chat_template.jinja",
                "merges.txt"
            ]
        );
        let embeds = [
            "modules.json",
            "1_Pooling/config.json",
            "2_Dense/model.safetensors",
            "onnx/config.json",
        ];
        assert_eq!(needed(&embeds), embeds[..3]);
    }

    #[test]
    fn a_path_that_leads_out_is_refused() {
        for wrong in [
            "../config.json",
            "/etc/x.json",
            "a\\b.json",
            "1_a/../../x.json",
        ] {
            let siblings = serde_json::json!([{"rfilename": wrong}, {"rfilename": "modules.json"}]);
            let answer = serde_json::json!({"sha": "ab12", "siblings": siblings});
            let answer: Answer = serde_json::from_value(answer).unwrap();
            let listed = answer.needed();
            assert!(listed.is_err() || listed.unwrap().1.len() == 1, "{wrong}");
        }
    }
}
