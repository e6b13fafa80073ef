//! Several models: which are loaded, which make room, and who waits.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ml_backend::{Error, ModelInfo, Progress};
use serde_json::{Value, json};

use crate::client::{Reply, get, open, post};
use crate::{config, dir, load, serve, until};

fn ask(address: SocketAddr, model: &str) -> Reply {
    let request = json!({
        "model": model, "messages": [{"role": "user", "content": "What is 17 + 25?"}], "temperature": 0,
    });
    post(address, "/v1/chat/completions", &request)
}

fn assert_answers(address: SocketAddr, model: &str) {
    let reply = ask(address, model).ok();
    assert_eq!(reply["choices"][0]["message"]["content"], "42", "{model}");
}

/// How `/health` says that a model is.
fn told(address: SocketAddr, name: &str) -> Value {
    let health = get(address, "/health").json();
    let models = health["models"].as_array().unwrap();
    let found = models.iter().find(|model| model["name"] == name);
    found.unwrap().clone()
}

fn state(address: SocketAddr, name: &str) -> String {
    told(address, name)["state"].as_str().unwrap().to_owned()
}

/// Bytes that a demo model is reckoned with.
fn bytes(name: &str) -> u64 {
    let info = ModelInfo::read(dir(name)).unwrap();
    info.weight_bytes + info.cache_bytes(info.context.unwrap())
}

/// Room for each of the two models, and not for both.
fn room_for_one() -> ml_server::Config {
    let mut tight = config();
    tight.model_memory = Some(bytes("qwen3-demo").max(bytes("gemma3-demo")));
    tight
}

const NAMES: [&str; 2] = ["qwen3-demo", "gemma3-demo"];

#[test]
fn a_model_makes_room_for_another() {
    let address = serve(room_for_one()).address;
    for round in 0..4 {
        let (asked, other) = (NAMES[round % 2], NAMES[(round + 1) % 2]);
        assert_answers(address, asked);
        assert_eq!(state(address, asked), "loaded");
        assert_eq!(state(address, other), "unloaded");
    }
    let memory = &get(address, "/health").json()["model_memory"];
    assert!(
        memory["taken"].as_u64() <= memory["room"].as_u64(),
        "{memory}"
    );
    let models = get(address, "/v1/models").ok();
    assert_eq!(models["data"][0]["loaded"], false);
    assert_eq!(models["data"][1]["loaded"], true);
}

#[test]
fn a_model_in_use_is_not_unloaded() {
    let address = serve(room_for_one()).address;
    let endless = json!({
        "model": NAMES[0], "messages": [{"role": "user", "content": "hello"}], "ignore_eos": true, "stream": true,
    });
    let mut answer = open(address, "/v1/chat/completions", &endless);
    answer.event().unwrap();
    let waiting = std::thread::spawn(move || assert_answers(address, NAMES[1]));
    until("its being waited for", || {
        told(address, NAMES[1])["in_use"] == true
    });
    for _ in 0..20 {
        answer.event().unwrap();
        assert_eq!(state(address, NAMES[0]), "loaded");
    }
    // Its place is free when its client goes.
    drop(answer);
    waiting.join().unwrap();
    assert_eq!(state(address, NAMES[0]), "unloaded");
}

#[test]
fn what_does_not_fit_is_told_in_bytes_and_can_be_forced() {
    let mut tiny = config();
    tiny.model_memory = Some(1000);
    let address = serve(tiny).address;
    let reply = ask(address, NAMES[0]);
    let error = &reply.json()["error"];
    assert_eq!(
        (reply.status, &error["code"]),
        (503, &json!("model_does_not_fit"))
    );
    let message = error["message"].as_str().unwrap();
    for part in [&bytes(NAMES[0]).to_string(), "1000 are there", "--force"] {
        assert!(message.contains(part), "{message}");
    }
    let mut forced = config();
    (forced.model_memory, forced.force) = (Some(1000), true);
    let address = serve(forced).address;
    for name in [NAMES[0], NAMES[1], NAMES[0]] {
        assert_answers(address, name);
    }
    assert_eq!(
        state(address, NAMES[1]),
        "unloaded",
        "one at a time, where none fits"
    );
}

#[test]
fn a_model_is_loaded_once_for_all_who_wait_and_again_after_a_failure() {
    let (loads, (go, wait)) = (Arc::new(AtomicUsize::new(0)), channel::<bool>());
    let (count, wait) = (Arc::clone(&loads), Mutex::new(wait));
    let mut counted = config();
    counted.load = Box::new(move |dir, progress| {
        count.fetch_add(1, Ordering::Relaxed);
        progress(Progress::Weights { bytes: 1, total: 4 });
        match wait.lock().unwrap().recv().unwrap() {
            true => load(dir, progress),
            false => Err(Error::EngineEnded),
        }
    });
    let address = serve(counted).address;
    assert_eq!(state(address, NAMES[0]), "unloaded");
    for (attempt, succeeds) in [(1, false), (2, true)] {
        let several: Vec<_> = (0..8)
            .map(|_| std::thread::spawn(move || ask(address, NAMES[0])))
            .collect();
        until("loading", || told(address, NAMES[0])["fraction"] == 0.25);
        // All have come by then.
        std::thread::sleep(Duration::from_millis(200));
        go.send(succeeds).unwrap();
        for reply in several.into_iter().map(|thread| thread.join().unwrap()) {
            assert_eq!(reply.status, if succeeds { 200 } else { 503 }, "{reply:?}");
        }
        assert_eq!(loads.load(Ordering::Relaxed), attempt);
    }
    assert_eq!(state(address, NAMES[0]), "loaded");
}

#[test]
fn a_loader_that_panics_is_an_error_and_no_more() {
    let loads = AtomicUsize::new(0);
    let mut broken = config();
    broken.load = Box::new(
        move |dir, progress| match loads.fetch_add(1, Ordering::Relaxed) {
            0 => panic!("a test's panic"),
            _ => load(dir, progress),
        },
    );
    let address = serve(broken).address;
    assert_eq!(ask(address, NAMES[0]).status, 500);
    assert_answers(address, NAMES[0]);
}

#[test]
fn who_goes_away_while_it_loads_leaves_it_to_others() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let mut slow = config();
    slow.load = Box::new(move |dir, progress| {
        wait.lock().unwrap().recv().unwrap();
        load(dir, progress)
    });
    let address = serve(slow).address;
    let request =
        json!({"model": NAMES[0], "messages": [{"role": "user", "content": "hello"}]}).to_string();
    let mut leaver = std::net::TcpStream::connect(address).unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}",
        request.len()
    );
    std::io::Write::write_all(&mut leaver, format!("{head}\r\n\r\n{request}").as_bytes()).unwrap();
    until("loading", || state(address, NAMES[0]) == "loading");
    drop(leaver);
    until("nobody", || told(address, NAMES[0])["in_use"] == false);
    go.send(()).unwrap();
    until("the model", || state(address, NAMES[0]) == "loaded");
    assert_answers(address, NAMES[0]);
}

#[test]
fn what_nobody_uses_is_unloaded_after_its_time() {
    let mut brief = config();
    brief.keep_alive = Some(Duration::ZERO);
    let address = serve(brief).address;
    for _ in 0..3 {
        assert_answers(address, NAMES[0]);
        until("its end", || state(address, NAMES[0]) == "unloaded");
    }
    let mut patient = config();
    patient.keep_alive = Some(Duration::from_millis(300));
    let address = serve(patient).address;
    assert_answers(address, NAMES[0]);
    assert_eq!(state(address, NAMES[0]), "loaded");
    until("its end", || state(address, NAMES[0]) == "unloaded");
    let mut forever = config();
    forever.keep_alive = None;
    let address = serve(forever).address;
    assert_answers(address, NAMES[0]);
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(state(address, NAMES[0]), "loaded");
}

#[test]
fn many_who_want_different_models_are_all_answered() {
    let mut tight = room_for_one();
    tight.keep_alive = Some(Duration::from_millis(20));
    let address = serve(tight).address;
    std::thread::scope(|scope| {
        for client in 0..6 {
            scope.spawn(move || {
                for turn in 0..4 {
                    assert_answers(address, NAMES[(client + turn) % 2]);
                }
            });
        }
    });
}

#[test]
fn names_are_told_to_those_with_a_key() {
    let mut locked = config();
    locked.keys = vec!["k".into()];
    let address = serve(locked).address;
    assert!(get(address, "/health").ok().get("models").is_none());
    let key = [("authorization", "Bearer k")];
    let health = crate::client::send(address, "GET", "/health", &key, "").whole();
    assert_eq!(health.ok()["models"][0]["name"], NAMES[0]);
}
