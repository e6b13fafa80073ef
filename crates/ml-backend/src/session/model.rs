//! Which model a conversation was had with.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::MlxBackend;

/// A model as a session's file names it: enough to see that another one goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SessionModel {
    name: String,
    model_type: String,
    layers: usize,
    hidden_size: usize,
    vocab_size: usize,
}

impl SessionModel {
    pub(super) fn of(backend: &MlxBackend) -> Self {
        let info = backend.info();
        Self {
            name: name_of(&info.dir),
            model_type: info.model.model_type.clone(),
            layers: info.model.layers,
            hidden_size: info.model.hidden_size,
            vocab_size: info.model.vocab_size,
        }
    }
}

impl fmt::Display for SessionModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, layers) = (&self.model_type, self.layers);
        write!(f, "{} ({kind}, {layers} layers)", self.name)
    }
}

/// The name of a model's folder, or what the hub's cache keeps there: that names its folders by commits.
fn name_of(dir: &Path) -> String {
    let name = |dir: &Path| {
        dir.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    // A path such as `.` says nothing.
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    match dir.parent().filter(|parent| parent.ends_with("snapshots")) {
        Some(snapshots) => {
            let model = name(snapshots.parent().unwrap_or(snapshots));
            let plain = model.strip_prefix("models--").unwrap_or(&model);
            plain.replacen("--", "/", 1)
        }
        None => name(&dir),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_of_the_hub_has_its_name_there() {
        let cached = "/cache/hub/models--mlx-community--Qwen3-0.6B-4bit/snapshots/0a1b";
        assert_eq!(name_of(Path::new(cached)), "mlx-community/Qwen3-0.6B-4bit");
        assert_eq!(name_of(Path::new("/models/qwen3-demo/")), "qwen3-demo");
    }
}
