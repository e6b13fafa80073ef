//! HTTPS, spoken to by rustls as a client.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ml_server::Tls;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::{config, serve};

/// A folder with a certificate for `localhost` and its key.
struct Files {
    folder: tempfile::TempDir,
    certificate: CertificateDer<'static>,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(
            folder.path().join("key.pem"),
            made.signing_key.serialize_pem(),
        )
        .unwrap();
        Self {
            folder,
            certificate: made.cert.der().clone(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file of the folder with that content.
    fn file(&self, name: &str, content: &str) -> PathBuf {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    fn config(&self) -> ml_server::Config {
        let mut secret = config();
        let tls = Tls::from_files(&self.path("cert.pem"), &self.path("key.pem"));
        secret.tls = Some(tls.unwrap());
        secret
    }
}

#[test]
fn a_client_that_trusts_the_certificate_is_answered() {
    let files = Files::new();
    let address = serve(files.config()).address;
    let mut roots = RootCertStore::empty();
    roots.add(files.certificate.clone()).unwrap();
    let mut client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let client = Arc::new(client);
    let connection = ClientConnection::new(Arc::clone(&client), "localhost".try_into().unwrap());
    let stream = TcpStream::connect(address).unwrap();
    let mut stream = StreamOwned::new(connection.unwrap(), stream);
    // Two on one connection.
    for _ in 0..2 {
        let head = format!(
            "GET /health HTTP/1.1\r\nhost: localhost:{}\r\n\r\n",
            address.port()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut text = String::new();
        while !text.ends_with("}}") {
            let mut bytes = [0; 4096];
            let read = stream.read(&mut bytes).unwrap();
            assert!(read > 0, "{text}");
            text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        }
        assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
    }
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    // Another name is none of the certificate's.
    let other = ClientConnection::new(client, "evil.example".try_into().unwrap());
    let mut other = StreamOwned::new(other.unwrap(), TcpStream::connect(address).unwrap());
    assert!(other.write_all(b"GET /health HTTP/1.1\r\n").is_err());
}

#[test]
fn who_does_not_speak_tls_is_told_so_or_let_go() {
    let files = Files::new();
    let mut hasty = files.config();
    hasty.header_time = Duration::from_millis(300);
    let address = serve(hasty).address;
    let reply = crate::client::get(address, "/health");
    assert_eq!(reply.status, 400);
    assert_eq!(reply.json()["error"]["code"], "tls_required");
    for silent in [
        &b""[..],
        &b"\x16\x03\x01"[..],
        &b"\x16\x03\x01\x00\x04junk"[..],
    ] {
        let since = Instant::now();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(silent).unwrap();
        // It is closed, with or without an alert.
        let _ = stream.read_to_end(&mut Vec::new());
        assert!(since.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn files_that_cannot_be_used_are_told_in_one_line() {
    let (files, others) = (Files::new(), Files::new());
    let (cert, key) = (files.path("cert.pem"), files.path("key.pem"));
    let refusal = |cert: &PathBuf, key: &PathBuf| match Tls::from_files(cert, key) {
        Ok(_) => panic!("{cert:?} and {key:?} are no pair"),
        Err(error) => {
            let line = error.to_string();
            assert!(!line.contains('\n'), "{line}");
            line
        }
    };
    assert!(refusal(&files.path("none"), &key).starts_with("cannot read"));
    assert!(refusal(&key, &cert).contains("it has no certificate"));
    assert!(refusal(&cert, &cert).contains("it has no private key"));
    assert!(
        refusal(&cert, &others.path("key.pem")).contains("is not that of the first certificate")
    );
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let encrypted = files.file("encrypted.pem", encrypted);
    assert!(refusal(&cert, &encrypted).contains("encrypted"));
    let older = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let older = files.file("older.pem", older);
    assert!(refusal(&cert, &older).contains("encrypted"));
    let damaged = files.file(
        "damaged.pem",
        "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n",
    );
    assert!(refusal(&damaged, &key).contains("PEM"));
    let empty = files.file(
        "empty.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    assert!(refusal(&empty, &key).contains("cannot be used"));
}
