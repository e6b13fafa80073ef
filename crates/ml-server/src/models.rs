//! The models by name: each loaded when it is first asked for, and unloaded when it makes room or was idle for long.

mod slots;

use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use ml_backend::{MlxBackend, ModelInfo, Progress};
use serde::Serialize;
use tokio::sync::watch;

use crate::config::{Load, NamedModel};
use crate::errors::{ApiError, Result};
use slots::{Slots, State, Step};

/// Tokens of context that a model's room is reckoned with, if its own is not shorter.
const CONTEXT: usize = 8192;

/// How long a request waits for models in use to make room.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Models {
    models: Vec<NamedModel>,
    keep_alive: Option<Duration>,
    shared: Arc<Shared>,
}

struct Shared {
    load: Box<Load>,
    slots: Mutex<Slots<MlxBackend>>,
    /// Wakes those who wait for something of the slots.
    changed: watch::Sender<()>,
}

/// A loaded model and the name that it goes by.
#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) backend: InUse,
}

/// A model that stays loaded as long as this or a clone of it is there.
#[derive(Clone)]
pub(crate) struct InUse {
    /// Goes before the place does: what is unloaded has no other clone.
    backend: MlxBackend,
    _place: Arc<Place>,
}

impl Deref for InUse {
    type Target = MlxBackend;

    fn deref(&self) -> &MlxBackend {
        &self.backend
    }
}

/// Counts as a user of a model.
struct Place {
    shared: Arc<Shared>,
    at: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.change(|slots| slots.leave(self.at));
    }
}

/// How a model is.
#[derive(Serialize)]
pub(crate) struct Told<'a> {
    pub(crate) name: &'a str,
    /// `unloaded`, `loading`, `loaded` or `unloading`.
    pub(crate) state: &'static str,
    /// How much of it is loaded, from 0 to 1, while it is being loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    fraction: Option<f64>,
    /// Bytes that it takes or would take, with the caches of a usual context; `None` before it was looked at.
    bytes: Option<u64>,
    in_use: bool,
    /// Tokens that its context holds, if it is loaded.
    #[serde(skip)]
    pub(crate) context: Option<usize>,
}

impl Models {
    pub(crate) fn new(
        models: Vec<NamedModel>,
        load: Box<Load>,
        (room, force): (Option<u64>, bool),
        keep_alive: Option<Duration>,
    ) -> Self {
        let slots = Slots::new(models.len(), room.unwrap_or(u64::MAX), force);
        Self {
            models,
            keep_alive,
            shared: Arc::new(Shared {
                load,
                slots: Mutex::new(slots),
                changed: watch::Sender::new(()),
            }),
        }
    }

    /// How each is, in their order.
    pub(crate) fn list(&self) -> Vec<Told<'_>> {
        let slots = self.shared.slots();
        let both = self.models.iter().zip(&slots.slots);
        both.map(|(model, slot)| {
            let (state, fraction, context) = match &slot.state {
                State::Unloaded => ("unloaded", None, None),
                State::Loading(done, total) => {
                    let fraction = *done as f64 / (*total).max(1) as f64;
                    ("loading", Some(fraction), None)
                }
                State::Loaded(backend) => ("loaded", None, backend.info().model.context),
                State::Unloading => ("unloading", None, None),
            };
            Told {
                name: &model.name,
                state,
                fraction,
                bytes: slot.bytes,
                in_use: slot.in_use(),
                context,
            }
        })
        .collect()
    }

    /// Bytes that models take now, and those that they may take where there is a bound.
    pub(crate) fn memory(&self) -> (u64, Option<u64>) {
        let slots = self.shared.slots();
        (
            slots.taken(|_| true),
            Some(slots.room).filter(|room| *room != u64::MAX),
        )
    }

    /// Loads the model, if there is one only.
    ///
    /// # Errors
    /// What a request for it would be told.
    pub(crate) fn load_only(&self) -> Result<(), LoadError> {
        let [model] = &self.models[..] else {
            return Ok(());
        };
        loop {
            match self.shared.step(0, &mut None) {
                Step::Measure => {
                    let bytes = measure(model)?;
                    self.shared.slots().measured(0, bytes);
                }
                Step::Load => {
                    let loaded = self.shared.load(0, model);
                    return loaded.map_err(LoadError::Load);
                }
                Step::TooLarge(bytes) => {
                    let room = self.memory().1.unwrap_or(u64::MAX);
                    return Err(LoadError::TooLarge(too_large(&model.name, bytes, room)));
                }
                // There is nobody else yet.
                _ => return Ok(()),
            }
        }
    }

    /// The model of that name, loaded. Without a name it is the first one, and so it is for names of Claude, which
    /// clients of Anthropic's API are built to send.
    ///
    /// # Errors
    /// 404 for a name that is none, 503 for a model that does not fit, or not beside those in use, and what loading
    /// says.
    pub(crate) async fn get(&self, name: Option<&str>) -> Result<Model> {
        let at = self.find(name)?;
        let model = &self.models[at];
        self.shared.slots().enter(at);
        let place = Place {
            shared: Arc::clone(&self.shared),
            at,
        };
        let mut changes = self.shared.changed.subscribe();
        let (mut joined, mut patience) = (None, None);
        loop {
            changes.mark_unchanged();
            match self.shared.step(at, &mut joined) {
                Step::Use(backend) => {
                    return Ok(Model {
                        name: model.name.clone(),
                        backend: InUse {
                            backend,
                            _place: Arc::new(place),
                        },
                    });
                }
                Step::Measure => {
                    let model = model.clone();
                    let bytes = tokio::task::spawn_blocking(move || measure(&model)).await;
                    let bytes = bytes.map_err(|_| panicked())?;
                    let bytes = bytes.map_err(|error| ApiError::from(&error))?;
                    self.shared.slots().measured(at, bytes);
                }
                Step::Load => {
                    // Goes on when the client has gone: it was begun for all who wait.
                    let (shared, model) = (Arc::clone(&self.shared), model.clone());
                    tokio::task::spawn_blocking(move || shared.load(at, &model));
                }
                Step::Unload(other, backend) => self.unload(other, backend),
                Step::Wait => changed(&mut changes).await,
                Step::WaitForRoom => {
                    let now = tokio::time::Instant::now();
                    let until = *patience.get_or_insert(now + PATIENCE);
                    let waits = tokio::time::timeout_at(until, changed(&mut changes));
                    waits.await.map_err(|_| no_room(&model.name))?;
                }
                Step::Failed(error) => return Err(error),
                Step::TooLarge(bytes) => {
                    let room = self.memory().1.unwrap_or(u64::MAX);
                    let message = too_large(&model.name, bytes, room);
                    return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message)
                        .code("model_does_not_fit"));
                }
            }
        }
    }

    /// Unloads what nobody has used for long, for as long as this is awaited.
    pub(crate) async fn keep(&self) {
        let Some(after) = self.keep_alive else {
            return std::future::pending().await;
        };
        let mut changes = self.shared.changed.subscribe();
        loop {
            changes.mark_unchanged();
            let (gone, next) = self.shared.slots().expire(after, Instant::now());
            for (at, backend) in gone {
                self.unload(at, backend);
            }
            match next {
                // Either way it is time to look again.
                Some(next) => {
                    let _ = tokio::time::timeout_at(next.into(), changed(&mut changes)).await;
                }
                None => changed(&mut changes).await,
            }
        }
    }

    /// Lets go of a model, on a thread that may block: its memory is free when that is over.
    fn unload(&self, at: usize, backend: MlxBackend) {
        tracing::info!("unloading {}", self.models[at].name);
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || {
            drop(backend);
            shared.change(|slots| slots.unloaded(at));
        });
    }

    fn find(&self, name: Option<&str>) -> Result<usize> {
        let found = match name {
            Some(name) => self.models.iter().position(|model| model.name == name),
            None => None,
        };
        let stands_for_first = name.is_none_or(|name| name.starts_with("claude-"));
        let found = found.or_else(|| (!self.models.is_empty() && stands_for_first).then_some(0));
        found.ok_or_else(|| {
            let names: Vec<_> = self.models.iter().map(|model| &*model.name).collect();
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

/// Why the only model cannot be loaded.
pub(crate) enum LoadError {
    Load(ml_backend::Error),
    TooLarge(String),
}

impl From<ml_backend::Error> for LoadError {
    fn from(error: ml_backend::Error) -> Self {
        Self::Load(error)
    }
}

impl Shared {
    fn slots(&self) -> MutexGuard<'_, Slots<MlxBackend>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something that others may wait for.
    fn change(&self, change: impl FnOnce(&mut Slots<MlxBackend>)) {
        change(&mut self.slots());
        self.changed.send_replace(());
    }

    /// What a user of the model does next.
    fn step(&self, at: usize, joined: &mut Option<u64>) -> Step<MlxBackend> {
        self.slots().step(at, joined)
    }

    /// Loads the model of a slot that says so, and tells how that went.
    fn load(&self, at: usize, model: &NamedModel) -> ml_backend::Result<()> {
        let mut progress = |progress: Progress| {
            if let Progress::Weights { bytes, total } = progress {
                self.slots().progress(at, bytes, total);
            }
        };
        let loading = || (self.load)(&model.dir, &mut progress);
        let outcome = match catch_unwind(AssertUnwindSafe(loading)) {
            Ok(Ok(backend)) => {
                let info = backend.info();
                let bytes = info.held_bytes + caches(&info.model);
                self.change(|slots| slots.loaded(at, backend, bytes));
                return Ok(());
            }
            Ok(Err(error)) => Ok(error),
            Err(panic) => Err(panic),
        };
        let error = match &outcome {
            Ok(error) => ApiError::from(error),
            Err(_) => panicked(),
        };
        tracing::warn!("cannot load {}: {}", model.name, error.message);
        self.change(|slots| slots.failed(at, error));
        match outcome {
            Ok(error) => Err(error),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// Bytes that a model will take.
fn measure(model: &NamedModel) -> ml_backend::Result<u64> {
    let info = ModelInfo::read(&model.dir)?;
    Ok(info.weight_bytes + caches(&info))
}

fn caches(info: &ModelInfo) -> u64 {
    info.cache_bytes(info.context.unwrap_or(CONTEXT).min(CONTEXT))
}

async fn changed(changes: &mut watch::Receiver<()>) {
    // The sender lives as long as the models, whose changes these are.
    let _ = changes.changed().await;
}

fn too_large(name: &str, bytes: u64, room: u64) -> String {
    format!(
        "the model {name} needs {bytes} bytes, with a context of {CONTEXT} tokens or its own, and {room} are there for \
         models; --model-memory says how many there are, and --force loads it all the same"
    )
}

fn no_room(name: &str) -> ApiError {
    let message = format!(
        "the model {name} does not fit beside those that are in use; try again when their answers have ended"
    );
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message)
        .code("models_in_use")
        .retry_after(5)
}

fn panicked() -> ApiError {
    let message = "loading the model panicked";
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message).code("internal_error")
}
