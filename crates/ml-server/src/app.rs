//! What all handlers share.

use std::sync::Arc;

use axum::http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::config::Config;
use crate::conversations::Conversations;
use crate::errors::{ApiError, Result};
use crate::host_check::Hosts;
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::models::Models;

/// The state of a server.
pub(crate) struct App {
    pub(crate) models: Models,
    pub(crate) keys: Keys,
    pub(crate) hosts: Hosts,
    pub(crate) metrics: Metrics,
    pub(crate) conversations: Conversations,
    pub(crate) limits: Limits,
    pub(crate) test_force_tools: bool,
    places: Arc<Semaphore>,
    stage: watch::Sender<Stage>,
}

/// What bounds a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of a body.
    pub(crate) body: usize,
    /// Requests that run or wait.
    pub(crate) requests: usize,
    /// Silence of a stream before a ping.
    pub(crate) ping: std::time::Duration,
}

/// How far the server has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Open,
    /// Nothing new is taken.
    Closing,
    /// What runs is ended.
    Aborting,
}

impl App {
    pub(crate) fn new(config: Config) -> Self {
        let limits = Limits {
            body: config.max_body,
            requests: config.max_requests,
            ping: config.ping,
        };
        Self {
            models: Models::new(
                config.models,
                config.load,
                (config.model_memory, config.force),
                config.keep_alive,
            ),
            keys: Keys::new(config.keys),
            hosts: Hosts::new(config.hosts, config.origins),
            metrics: Metrics::default(),
            conversations: Conversations::default(),
            limits,
            test_force_tools: config.test_force_tools,
            places: Arc::new(Semaphore::new(limits.requests.min(Semaphore::MAX_PERMITS))),
            stage: watch::Sender::new(Stage::Open),
        }
    }

    pub(crate) fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    pub(crate) fn enter(&self, stage: Stage) {
        self.stage.send_replace(stage);
    }

    /// Ends when the server has come to `stage`.
    pub(crate) fn reached(&self, stage: Stage) -> impl Future<Output = ()> + Send + 'static {
        let mut stages = self.stage.subscribe();
        async move {
            // The sender outlives all requests; should it go, the server has ended.
            let _ = stages.wait_for(|now| *now >= stage).await;
        }
    }

    /// Room for so many answers, free again when it goes.
    ///
    /// # Errors
    /// 429 when too many run or wait, 503 when the server ends.
    pub(crate) fn admit(&self, answers: usize) -> Result<Vec<OwnedSemaphorePermit>> {
        if self.stage() > Stage::Open {
            return Err(ApiError::shutting_down());
        }
        let place = || Arc::clone(&self.places).try_acquire_owned().ok();
        let places: Option<Vec<_>> = (0..answers).map(|_| place()).collect();
        places.ok_or_else(|| {
            let message = format!(
                "{} requests run or wait already; try again later",
                self.limits.requests
            );
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, message)
                .code("queue_full")
                .retry_after(1)
        })
    }
}
