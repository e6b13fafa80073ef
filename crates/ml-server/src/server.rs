//! Listening, connections, and the end.
//!
//! Connections are few in number and bounded in what they may cost before a request is there: bytes and count of
//! headers, and the time that they take. When the server is told to end, it takes no new connection and no new
//! request, lets answers go on for a while, ends the rest with an error, and is over when all have been told.

use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use crate::app::{App, Stage};
use crate::config::Config;
use crate::models::LoadError;
use crate::routes;
use crate::tls::Tls;

/// Why a server cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No model was given, or two of one name, or the only one does not fit.
    #[error("{0}")]
    Models(String),

    /// Nobody may listen there.
    #[error("cannot listen on {address}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },

    /// The threads that serve cannot be started.
    #[error("cannot start the server's threads")]
    Runtime(#[source] std::io::Error),

    /// The only model cannot be loaded.
    #[error(transparent)]
    Load(ml_backend::Error),
}

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    app: Arc<App>,
    max_connections: usize,
    header_time: Duration,
    grace: Duration,
    tls: Option<Tls>,
}

/// Ends a server; clones end the same one.
#[derive(Clone)]
pub struct Stopper(Arc<App>);

impl Stopper {
    /// Has the server take nothing new and end: [`Server::run`] returns when all answers have ended, after
    /// [`Config::grace`] at the latest.
    pub fn stop(&self) {
        if self.0.stage() == Stage::Open {
            self.0.enter(Stage::Closing);
        }
    }
}

impl Server {
    /// Listens. Connections wait until [`run`](Self::run) serves them.
    ///
    /// # Errors
    /// No model, two of one name, and an address on which nobody may listen.
    pub fn bind(address: SocketAddr, config: Config) -> Result<Self, Error> {
        check_names(&config)?;
        let failed = |source| Error::Bind { address, source };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self {
            address: listener.local_addr().map_err(failed)?,
            listener,
            max_connections: config.max_connections.clamp(1, Semaphore::MAX_PERMITS),
            header_time: config.header_time,
            grace: config.grace,
            tls: config.tls.clone(),
            app: Arc::new(App::new(config)),
        })
    }

    /// Where it listens, with the port that the system gave for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What ends it.
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.app))
    }

    /// Loads the model, where there is one only, so that it is not the first request that waits for it.
    ///
    /// # Errors
    /// What loading says.
    pub fn load_only_model(&self) -> Result<(), Error> {
        self.app.models.load_only().map_err(|error| match error {
            LoadError::Load(error) => Error::Load(error),
            LoadError::TooLarge(message) => Error::Models(message),
        })
    }

    /// Serves until it is stopped.
    ///
    /// # Errors
    /// Threads that cannot be started.
    pub fn run(self) -> Result<(), Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            // The processor is the engine's; what is done here is little.
            .worker_threads(2)
            .thread_name("serve")
            .enable_all()
            .build()
            .map_err(Error::Runtime)?;
        let outcome = runtime.block_on(self.serve());
        // What still blocks has been cancelled and is nobody's any more.
        runtime.shutdown_background();
        outcome
    }

    async fn serve(self) -> Result<(), Error> {
        let listener = tokio::net::TcpListener::from_std(self.listener).map_err(Error::Runtime)?;
        let routes = routes::all(&self.app);
        let places = Arc::new(Semaphore::new(self.max_connections));
        let mut closing = pin!(self.app.reached(Stage::Closing));
        let mut keeper = pin!(self.app.models.keep());
        loop {
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                biased;
                () = &mut closing => break,
                () = &mut keeper => break,
                accepted = accepted => accepted,
            };
            let (Ok(place), Ok((stream, _))) = (place, accepted) else {
                // Out of files, mostly: connections that end will give some back.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            // A token is a small packet, which is not to wait for the next one.
            let _ = stream.set_nodelay(true);
            let (routes, app) = (routes.clone(), Arc::clone(&self.app));
            let (tls, time) = (self.tls.clone(), self.header_time);
            tokio::spawn(async move {
                match tls {
                    None => connection(stream, routes, app, time).await,
                    Some(tls) => {
                        let closing = app.reached(Stage::Closing);
                        let stream = tokio::select! {
                            stream = tls.accept(stream, time) => stream,
                            () = closing => None,
                        };
                        if let Some(stream) = stream {
                            connection(stream, routes, app, time).await;
                        }
                    }
                }
                drop(place);
            });
        }
        drop(listener);
        let all = u32::try_from(self.max_connections).unwrap_or(u32::MAX);
        let over = async { drop(places.acquire_many(all).await) };
        let mut over = pin!(over);
        if tokio::time::timeout(self.grace, &mut over).await.is_err() {
            self.app.enter(Stage::Aborting);
            let _ = tokio::time::timeout(LAST_WORDS, over).await;
        }
        Ok(())
    }
}

/// How long clients may take to read why their answer broke off.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Bytes of a request's line and headers, and their number.
const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 100;

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    routes: axum::Router,
    app: Arc<App>,
    header_time: Duration,
) {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(header_time)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD)
        .max_buf_size(2 * MAX_HEAD);
    let service = TowerToHyperService::new(routes);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let closing = app.reached(Stage::Closing);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = closing => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!("a connection broke off: {error}");
    }
}

fn check_names(config: &Config) -> Result<(), Error> {
    if config.models.is_empty() {
        return Err(Error::Models(
            "there is no model to serve; name one".to_owned(),
        ));
    }
    for (at, model) in config.models.iter().enumerate() {
        let before = config.models.iter().take(at);
        if before.clone().any(|other| other.name == model.name) {
            let message = format!(
                "two models are called {:?}; give one another name",
                model.name
            );
            return Err(Error::Models(message));
        }
    }
    Ok(())
}
