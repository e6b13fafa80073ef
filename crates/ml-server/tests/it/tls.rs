//! HTTPS, spoken to by rustls as a client.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ml_server::Tls;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::{config, serve};

/// Of the certificate and keys in the fixtures.
fn path(name: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls");
    fixtures.join(name)
}

fn secret() -> ml_server::Config {
    let mut secret = config();
    secret.tls = Some(Tls::from_files(&path("cert.pem"), &path("key.pem")).unwrap());
    secret
}

#[test]
fn a_client_that_trusts_the_certificate_is_answered() {
    let address = serve(secret()).address;
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(path("cert.pem")).unwrap();
    roots.add(certificate).unwrap();
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
    let mut hasty = secret();
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
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    let refusal = |cert: &Path, key: &Path| match Tls::from_files(cert, key) {
        Ok(_) => panic!("{cert:?} and {key:?} are no pair"),
        Err(error) => {
            let line = error.to_string();
            assert!(!line.contains('\n'), "{line}");
            line
        }
    };
    assert!(refusal(&path("none"), &key).starts_with("cannot read"));
    assert!(refusal(&key, &cert).contains("it has no certificate"));
    assert!(refusal(&cert, &cert).contains("it has no private key"));
    let mismatch = refusal(&cert, &path("other.pem"));
    assert!(
        mismatch.contains("is not that of the first certificate"),
        "{mismatch}"
    );
    assert!(refusal(&cert, &path("encrypted.pem")).contains("openssl pkey"));
    let older = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    assert!(refusal(&cert, &file("older.pem", older)).contains("openssl pkey"));
    let damaged = "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n";
    assert!(refusal(&file("damaged.pem", damaged), &key).contains("no sound PEM"));
    let empty = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let empty = refusal(&file("empty.pem", empty), &key);
    assert!(empty.contains("cannot be used"), "{empty}");
}
