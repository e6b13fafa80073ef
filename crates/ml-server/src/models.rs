//! The models by name, each loaded when it is first asked for.

use std::sync::Arc;

use axum::http::StatusCode;
use ml_backend::MlxBackend;
use tokio::sync::OnceCell;

use crate::config::{Load, NamedModel};
use crate::errors::{ApiError, Result};

pub(crate) struct Models {
    entries: Vec<Entry>,
    load: Arc<Load>,
}

struct Entry {
    model: NamedModel,
    loaded: OnceCell<MlxBackend>,
}

/// A loaded model and the name that it goes by.
#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) backend: MlxBackend,
}

impl Models {
    pub(crate) fn new(models: Vec<NamedModel>, load: Box<Load>) -> Self {
        let entry = |model| Entry {
            model,
            loaded: OnceCell::new(),
        };
        Self {
            entries: models.into_iter().map(entry).collect(),
            load: load.into(),
        }
    }

    /// The names, and whether each is loaded.
    pub(crate) fn list(&self) -> impl Iterator<Item = (&str, Option<&MlxBackend>)> {
        let entries = self.entries.iter();
        entries.map(|entry| (entry.model.name.as_str(), entry.loaded.get()))
    }

    /// Loads the model, if there is one only.
    pub(crate) fn load_only(&self) -> ml_backend::Result<()> {
        if let [entry] = &self.entries[..]
            && !entry.loaded.initialized()
        {
            // Who loads it at the same time has loaded the same.
            let _ = entry.loaded.set((self.load)(&entry.model.dir)?);
        }
        Ok(())
    }

    /// The model of that name, loaded. Without a name it is the first one, and so it is for names of Claude, which
    /// clients of Anthropic's API are built to send.
    ///
    /// # Errors
    /// 404 for a name that is none, and what loading says.
    pub(crate) async fn get(&self, name: Option<&str>) -> Result<Model> {
        let entry = self.find(name)?;
        let (load, dir) = (Arc::clone(&self.load), entry.model.dir.clone());
        let loading = entry.loaded.get_or_try_init(|| async move {
            let loaded = tokio::task::spawn_blocking(move || load(&dir)).await;
            let loaded = loaded.map_err(|_| {
                ApiError::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "loading the model panicked",
                )
            })?;
            loaded.map_err(|error| ApiError::from(&error))
        });
        Ok(Model {
            name: entry.model.name.clone(),
            backend: loading.await?.clone(),
        })
    }

    fn find(&self, name: Option<&str>) -> Result<&Entry> {
        let found = match name {
            Some(name) => self.entries.iter().find(|entry| entry.model.name == name),
            None => None,
        };
        let stands_for_first = name.is_none_or(|name| name.starts_with("claude-"));
        let found = found.or_else(|| self.entries.first().filter(|_| stands_for_first));
        found.ok_or_else(|| {
            let names: Vec<_> = self.list().map(|(name, _)| name).collect();
            let message = format!(
                "there is no model {:?}; there is {}",
                name.unwrap_or_default(),
                names.join(", ")
            );
            let error = ApiError::new(StatusCode::NOT_FOUND, message);
            error.param("model").code("model_not_found")
        })
    }
}
