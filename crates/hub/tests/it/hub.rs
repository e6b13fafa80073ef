//! A hub: the repositories that it has, and what it does wrong.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use hub::{Hub, Settings};
use serde_json::{Value, json};
use sha1::Digest as _;

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub(crate) const MODEL: &str = "someone/small";

/// What may go wrong.
#[derive(Clone, Default)]
pub(crate) struct Faults {
    /// Bodies end after so many bytes, so many times.
    pub(crate) ends_after: Option<(usize, usize)>,
    /// This status instead of an answer, so many times.
    pub(crate) status: Option<(u16, usize)>,
    /// Every body has another first byte than it should.
    pub(crate) wrong_content: bool,
    /// The list tells of one byte more.
    pub(crate) wrong_size: bool,
    /// The list tells neither sizes nor digests.
    pub(crate) short_list: bool,
    /// Requests need this token.
    pub(crate) token: Option<String>,
    /// Ranges are not known.
    pub(crate) no_ranges: bool,
    /// What addresses behind the hub lead to is gone after so many requests.
    pub(crate) expires_after: Option<usize>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    faults: Faults,
    /// Each request.
    seen: Vec<Seen>,
    /// Where large files are: the address of the other server.
    storage: String,
    /// Addresses there hold as long as this is their signature; requests since it was made.
    signature: usize,
    since: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) range: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) at_storage: bool,
}

/// Two servers: the hub, and where its large files are.
#[derive(Clone)]
pub(crate) struct TestHub {
    pub(crate) endpoint: String,
    state: Arc<Mutex<State>>,
}

impl TestHub {
    /// A hub with one model of these files.
    pub(crate) fn with(files: &[(&str, Vec<u8>)]) -> Self {
        let listen = || TcpListener::bind("127.0.0.1:0").expect("a port");
        let (hub, storage) = (listen(), listen());
        let address = |listener: &TcpListener| {
            format!("http://{}", listener.local_addr().expect("an address"))
        };
        let files = files
            .iter()
            .map(|(path, content)| ((*path).to_owned(), content.clone()));
        let state = State {
            files: files.collect(),
            storage: address(&storage),
            ..State::default()
        };
        let this = Self {
            endpoint: address(&hub),
            state: Arc::new(Mutex::new(state)),
        };
        for (listener, at_storage) in [(hub, false), (storage, true)] {
            let this = this.clone();
            thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let this = this.clone();
                    thread::spawn(move || this.serve(&stream, at_storage));
                }
            });
        }
        this
    }

    /// A small model: descriptions, and weights of some pieces.
    pub(crate) fn small() -> Self {
        Self::with(&small())
    }

    pub(crate) fn fails(&self, faults: Faults) -> &Self {
        self.lock().faults = faults;
        self
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    pub(crate) fn forget(&self) {
        let mut state = self.lock();
        state.seen.clear();
        state.since = 0;
    }

    /// A client of it with a cache of its own.
    pub(crate) fn client(&self, cache: &Path, token: Option<&str>) -> Hub {
        Hub::new(self.settings(cache, token))
    }

    pub(crate) fn settings(&self, cache: &Path, token: Option<&str>) -> Settings {
        let mut settings = Settings::at(&self.endpoint, cache);
        settings.token = token.map(str::to_owned);
        settings.pause = Duration::from_millis(5);
        settings.piece = PIECE as u64;
        settings
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    fn serve(&self, stream: &TcpStream, at_storage: bool) {
        let mut reader = BufReader::new(stream);
        while let Some(request) = Request::read(&mut reader) {
            let answer = self.answer(&request, at_storage);
            if answer.write(stream, request.head).is_none() {
                return;
            }
        }
    }

    fn answer(&self, request: &Request, at_storage: bool) -> Answer {
        let mut state = self.lock();
        let header = |name: &str| request.headers.get(name).cloned();
        state.seen.push(Seen {
            range: header("range"),
            token: header("authorization"),
            at_storage,
        });
        if let Some((status, times @ 1..)) = state.faults.status {
            state.faults.status = Some((status, times - 1));
            return Answer::status(status).with("Retry-After", "0");
        }
        if let Some(token) = &state.faults.token
            && !at_storage
            && header("authorization") != Some(format!("Bearer {token}"))
        {
            return Answer::status(401).with("X-Error-Code", "GatedRepo");
        }
        let path = request.path.split('?').next().unwrap_or_default();
        if at_storage {
            state.since += 1;
            if state
                .faults
                .expires_after
                .is_some_and(|after| state.since > after)
            {
                state.since = 0;
                return Answer::status(403);
            }
            let file = path.trim_start_matches('/').to_owned();
            return state.content(&file, header("range").as_deref());
        }
        if let Some(revision) = path.strip_prefix(&format!("/api/models/{MODEL}/revision/")) {
            return match revision {
                "main" | "refs%2Fpr%2F7" | COMMIT => Answer::json(&state.list()),
                _ => Answer::status(404).with("X-Error-Code", "RevisionNotFound"),
            };
        }
        // The other list, which `huggingface_hub` asks for.
        if path == format!("/api/models/{MODEL}/tree/{COMMIT}") {
            return Answer::json(&state.tree());
        }
        // A model that was given another name.
        if let Some(rest) = path.strip_prefix("/api/models/someone/old/") {
            return Answer::status(307).with("Location", &format!("/api/models/{MODEL}/{rest}"));
        }
        let revisions = ["main", COMMIT].map(|revision| format!("/{MODEL}/resolve/{revision}/"));
        let old = format!("/someone/old/resolve/{COMMIT}/");
        let file = revisions
            .iter()
            .chain([&old])
            .find_map(|start| path.strip_prefix(start.as_str()));
        match file.map(str::to_owned) {
            Some(file) if state.files.contains_key(&file) => {
                state.file(&file, header("range").as_deref())
            }
            _ => Answer::status(404).with("X-Error-Code", "RepoNotFound"),
        }
    }
}

pub(crate) const PIECE: usize = 1000;

/// The files of a small model; its weights are no weights.
pub(crate) fn small() -> Vec<(&'static str, Vec<u8>)> {
    let mut next = 1u32;
    let weights = std::iter::from_fn(|| {
        next = next.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some((next >> 24) as u8)
    });
    vec![
        ("README.md", b"read me".to_vec()),
        ("config.json", br#"{"model_type": "small"}"#.to_vec()),
        ("model.safetensors", weights.take(12_345).collect()),
        ("pytorch_model.bin", b"not needed".to_vec()),
        ("tokenizer.json", b"{}".to_vec()),
    ]
}

impl State {
    fn signed(&self) -> String {
        format!("?signature=secret-{}", self.signature)
    }

    fn list(&self) -> Value {
        let files: Vec<Value> = self
            .files
            .iter()
            .map(|(path, content)| {
                let size = content.len() + usize::from(self.faults.wrong_size);
                let mut file = json!({"rfilename": path});
                if !self.faults.short_list {
                    file["size"] = size.into();
                    file["blobId"] = git(content).into();
                    if is_large(path) {
                        file["lfs"] =
                            json!({"sha256": sha256(content), "size": size, "pointerSize": 134});
                    }
                }
                file
            })
            .collect();
        json!({"id": MODEL, "sha": COMMIT, "siblings": files})
    }

    fn tree(&self) -> Value {
        let file = |(path, content): (&String, &Vec<u8>)| {
            let mut file =
                json!({"type": "file", "path": path, "size": content.len(), "oid": git(content)});
            if is_large(path) {
                file["lfs"] =
                    json!({"oid": sha256(content), "size": content.len(), "pointerSize": 134});
            }
            file
        };
        self.files.iter().map(file).collect()
    }

    /// What the hub says of a file: large ones are elsewhere.
    fn file(&mut self, file: &str, range: Option<&str>) -> Answer {
        let content = &self.files[file];
        let (size, etag) = (content.len().to_string(), etag(file, content));
        let answer = match is_large(file) {
            true => Answer::status(302)
                .with(
                    "Location",
                    &format!("{}/{file}{}", self.storage, self.signed()),
                )
                .with("X-Linked-Etag", &etag)
                .with("X-Linked-Size", &size),
            false => self.content(file, range),
        };
        answer.with("ETag", &etag).with("X-Repo-Commit", COMMIT)
    }

    fn content(&mut self, file: &str, range: Option<&str>) -> Answer {
        let mut content = self.files[file].clone();
        if self.faults.wrong_content && is_large(file) {
            content[0] ^= 1;
        }
        let range = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        let mut answer = match range {
            Some((from, to)) if !self.faults.no_ranges => {
                let from: usize = from.parse().expect("a number");
                let to = to
                    .parse()
                    .map_or(content.len(), |to: usize| content.len().min(to + 1));
                let said = format!("bytes {from}-{}/{}", to - 1, content.len());
                let mut answer = Answer::status(206).with("Content-Range", &said);
                answer.body = content[from..to].to_vec();
                answer
            }
            _ => {
                let mut answer = Answer::status(200);
                answer.body = content;
                answer
            }
        };
        if let Some((after, times @ 1..)) = self.faults.ends_after
            && answer.body.len() > after
        {
            self.faults.ends_after = Some((after, times - 1));
            answer.ends_after = Some(after);
        }
        answer
    }
}

fn is_large(path: &str) -> bool {
    path.ends_with(".safetensors") || path.ends_with(".bin")
}

fn etag(path: &str, content: &[u8]) -> String {
    match is_large(path) {
        true => format!("\"{}\"", sha256(content)),
        false => format!("\"{}\"", git(content)),
    }
}

pub(crate) fn sha256(content: &[u8]) -> String {
    hex(&sha2::Sha256::digest(content))
}

pub(crate) fn git(content: &[u8]) -> String {
    let mut state = sha1::Sha1::new();
    state.update(format!("blob {}\0", content.len()));
    state.update(content);
    hex(&state.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Request {
    head: bool,
    path: String,
    headers: HashMap<String, String>,
}

impl Request {
    fn read(reader: &mut impl BufRead) -> Option<Self> {
        let mut lines = reader.lines().map_while(Result::ok);
        let first = lines.next()?;
        let mut words = first.split(' ');
        let head = words.next()? == "HEAD";
        let path = words.next()?.to_owned();
        let headers = lines
            .take_while(|line| !line.is_empty())
            .filter_map(|line| {
                let (name, value) = line.split_once(':')?;
                Some((name.to_lowercase(), value.trim().to_owned()))
            });
        Some(Self {
            head,
            path,
            headers: headers.collect(),
        })
    }
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    ends_after: Option<usize>,
}

impl Answer {
    fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            ends_after: None,
        }
    }

    fn json(value: &Value) -> Self {
        let mut answer = Self::status(200).with("Content-Type", "application/json");
        answer.body = value.to_string().into_bytes();
        answer
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// `None` where the connection ends.
    fn write(&self, mut stream: &TcpStream, head: bool) -> Option<()> {
        let mut text = format!(
            "HTTP/1.1 {} x\r\nContent-Length: {}\r\n",
            self.status,
            self.body.len()
        );
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{text}\r\n").as_bytes()).ok()?;
        if head {
            return Some(());
        }
        let body = &self.body[..self.ends_after.unwrap_or(self.body.len())];
        stream.write_all(body).ok()?;
        if self.ends_after.is_some() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return None;
        }
        Some(())
    }
}
