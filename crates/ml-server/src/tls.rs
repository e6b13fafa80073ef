//! HTTPS: a certificate and its key, and the handshake.
//!
//! TLS 1.2 and 1.3 as rustls has them; HTTP/1.1 is all that is offered. Files are read once, at the start.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig, crypto};
use tokio_rustls::server::TlsStream;

/// What a server shows who it is by.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },

    /// A file has not what it should.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },

    /// Each file may be right, and they do not belong together.
    #[error("the key in {} is not that of the first certificate in {}", key.display(), cert.display())]
    Mismatch {
        /// The file of the certificates.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
}

impl Tls {
    /// Reads PEM files: `cert` has the server's certificate, and behind it those that lead to one that clients
    /// know; `key` has its private key, not encrypted (PKCS #8, PKCS #1 or SEC 1).
    ///
    /// # Errors
    /// Files that cannot be read, have something else in them, or do not belong together.
    pub fn from_files(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let (chain, private) = (certificates(cert)?, private_key(key)?);
        let provider = Arc::new(crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder
                    .with_no_client_auth()
                    .with_single_cert(chain, private)
            });
        let mut config = config.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::Mismatch {
                cert: cert.to_owned(),
                key: key.to_owned(),
            },
            rustls::Error::InvalidCertificate(_) => content(
                cert,
                format!("the certificate cannot be used ({error}); make it anew"),
            ),
            other => content(
                key,
                format!(
                    "the key cannot be used ({other}); RSA, ECDSA P-256 and P-384, and Ed25519 can"
                ),
            ),
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// The connection, once client and server trust each other; `None` where that fails or takes longer than `time`.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
        time: Duration,
    ) -> Option<TlsStream<TcpStream>> {
        let accepted = async {
            let mut first = [0];
            match stream.peek(&mut first).await {
                Ok(1) if first == [HANDSHAKE] => self.0.accept(stream).await,
                Ok(1) => {
                    tell_plainly(stream).await;
                    Err(std::io::Error::other("it is not TLS"))
                }
                Ok(_) => Err(std::io::ErrorKind::UnexpectedEof.into()),
                Err(error) => Err(error),
            }
        };
        match tokio::time::timeout(time, accepted).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                tracing::debug!("no TLS connection: {error}");
                None
            }
            Err(_) => {
                tracing::debug!("no TLS connection: the handshake took too long");
                None
            }
        }
    }
}

/// The first byte of what a client of TLS sends.
const HANDSHAKE: u8 = 0x16;

/// Bytes of a plain request that are read before the connection is closed, so that the answer is not lost with them.
const MOST_UNREAD: u64 = 64 << 10;

/// Answers a client that speaks HTTP without TLS.
async fn tell_plainly(mut stream: TcpStream) {
    let text = "{\"error\": {\"message\": \"this port speaks TLS; ask for https://\", \
                \"type\": \"invalid_request_error\", \"param\": null, \"code\": \"tls_required\"}}";
    let head = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close";
    let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{text}", text.len());
    let told = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(MOST_UNREAD), &mut tokio::io::sink()).await
    };
    // Who does not close has been told, too.
    let _ = tokio::time::timeout(Duration::from_secs(1), told).await;
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.map_err(|error| content(path, format!("it is no sound PEM: {error}")))?;
    if chain.is_empty() {
        let problem = "it has no certificate; one begins with -----BEGIN CERTIFICATE-----";
        return Err(content(path, problem));
    }
    Ok(chain)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(path)?;
    // Both ways to write it: of PKCS #8, and a header of the older forms.
    let has = |marker: &[u8]| text.windows(marker.len()).any(|bytes| bytes == marker);
    if has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") {
        let problem =
            "the key is encrypted; `openssl pkey -in FILE -out PLAIN` takes its passphrase away";
        return Err(content(path, problem));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        PemError::NoItemsFound => content(
            path,
            "it has no private key; one begins with -----BEGIN PRIVATE KEY-----",
        ),
        error => content(path, format!("it is no sound PEM: {error}")),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

fn content(path: &Path, problem: impl Into<String>) -> TlsError {
    TlsError::Content {
        path: path.to_owned(),
        problem: problem.into(),
    }
}
