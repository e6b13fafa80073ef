//! A process may end at any time: with a model in a static, in the middle of an answer, right after the
//! last model went. It ends with the status that it was given, on every device.
//!
//! Without a test harness, because what is tested is the end of a process: each way to end is a child,
//! several at a time, since what goes wrong here depends on who is faster.

mod common;

use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use ml_backend::{Backend, MlxBackend, Options, StreamingBackend};

/// Names the way to end in the environment of a child.
const WAY: &str = "ML_EXIT_TEST";
const WAYS: [(&str, fn()); 3] = [("idle", idle), ("answering", answering), ("freed", freed)];
/// What children end with: not what a process that crashed or failed ends with.
const STATUS: u8 = 42;
/// For a child to load a model, answer and end, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Children that end in the same way at the same time.
const AT_ONCE: usize = 4;

static MODEL: OnceLock<MlxBackend> = OnceLock::new();

fn load() -> MlxBackend {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/models/qwen3-demo");
    let builder = MlxBackend::builder().device(common::device());
    builder.load(dir).expect("the demo model loads")
}

fn greedy(tokens: usize) -> Options {
    let options = Options::new().temperature(0.0).ignore_eos(true);
    options.max_tokens(tokens)
}

/// With a model that has nothing to do.
fn idle() {
    let model = MODEL.get_or_init(load);
    model.generate("hello", &greedy(8)).expect("an answer");
}

/// While another thread is given an answer.
fn answering() {
    let model = MODEL.get_or_init(load);
    let (send, begun) = channel();
    std::thread::spawn(move || {
        let mut piece = |_: &str| Ok(send.send(())?);
        let _ = model.generate_stream("hello", &greedy(900), &mut piece);
    });
    begun.recv().expect("the answer begins");
}

/// Right after the only model was freed.
fn freed() {
    load().generate("hello", &greedy(8)).expect("an answer");
}

fn start(way: &str) -> Child {
    let program = std::env::current_exe().expect("this program is a file");
    let mut child = Command::new(program);
    child.env(WAY, way).stdin(Stdio::null());
    child.spawn().expect("a child starts")
}

/// How the child ends; `None` if it does not.
fn status(mut child: Child) -> Option<ExitStatus> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait().expect("a child has a status") {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().expect("a child can be ended");
    child.wait().expect("and is then over");
    None
}

fn main() -> ExitCode {
    if let Ok(asked) = std::env::var(WAY) {
        let (_, end) = WAYS.iter().find(|(way, _)| *way == asked).expect("a way");
        end();
        return ExitCode::from(STATUS);
    }
    let mut failed = 0;
    for (way, _) in WAYS {
        let children: Vec<Child> = (0..AT_ONCE).map(|_| start(way)).collect();
        for status in children.into_iter().map(status) {
            match status {
                Some(status) if status.code() == Some(STATUS.into()) => continue,
                Some(status) => eprintln!("{way}: {status}"),
                None => eprintln!("{way}: did not end within {PATIENCE:?}"),
            }
            failed += 1;
        }
    }
    println!("{failed} of {} processes ended badly", AT_ONCE * WAYS.len());
    ExitCode::from(u8::from(failed > 0))
}
