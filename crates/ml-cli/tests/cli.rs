//! The binary as a user meets it: real processes, in temporary folders, with the demo models.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

fn ml() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ml"));
    command.stdin(Stdio::null()).env_remove("XDG_STATE_HOME");
    command
}

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/models/qwen3-demo")
}

/// A command of `ml` for the demo model on the CPU.
fn with_demo(command: &str) -> Command {
    let mut ml = ml();
    ml.arg(command)
        .arg("--model")
        .arg(demo())
        .args(["--device", "cpu"]);
    ml
}

fn output(command: &mut Command) -> Output {
    command.output().expect("ml starts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("ml writes UTF-8")
}

/// Standard output of a command that has to succeed.
fn stdout(command: &mut Command) -> String {
    let output = output(command);
    assert!(
        output.status.success(),
        "{command:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout).to_owned()
}

/// The one line that a command which has to fail says; nothing may be on standard output.
fn failure(command: &mut Command) -> String {
    let output = output(command);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{command:?}: {stderr}");
    assert_eq!(text(&output.stdout), "", "{command:?}");
    let lines: Vec<&str> = stderr
        .lines()
        .filter(|line| line.starts_with("ml: "))
        .collect();
    let [line] = lines[..] else {
        panic!("{command:?}: not one line: {stderr}")
    };
    assert_eq!(
        stderr.lines().last(),
        Some(line),
        "the error is the last line"
    );
    line.to_owned()
}

/// Runs a command with `input` on its standard input.
fn feed(command: &mut Command, input: &[u8]) -> Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("ml starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    // It may end before it has read everything.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().expect("ml ends")
}

fn without_tokenizer() -> TempDir {
    let dir = TempDir::new().expect("a temporary folder");
    for file in fs::read_dir(demo()).expect("the demo model is there") {
        let file = file.expect("it can be listed");
        let name = file.file_name().into_string().expect("a plain name");
        if !name.starts_with("tokenizer") && !name.starts_with("chat_template") {
            fs::copy(file.path(), dir.path().join(name)).expect("it can be copied");
        }
    }
    dir
}

#[test]
fn wrong_use_exits_2() {
    let wrong: &[&[&str]] = &[
        &[],
        &["frobnicate"],
        &["generate"],
        &["generate", "--model", "m"],
        &["generate", "--prompt", "p"],
        &["generate", "--model", "m", "--prompt", "p", "--tokens", "1"],
        &[
            "generate", "--model", "m", "--prompt", "p", "--raw", "--system", "s",
        ],
        &[
            "generate",
            "--model",
            "m",
            "--prompt",
            "p",
            "--json",
            "--print-ids",
        ],
        &["generate", "--model", "m", "--tokens", "1,x"],
        &["generate", "--model", "m", "--tokens", ""],
        &["generate", "--model", "m", "--prompt", "p", "--temp", "-1"],
        &["generate", "--model", "m", "--prompt", "p", "--temp", "nan"],
        &[
            "generate",
            "--model",
            "m",
            "--prompt",
            "p",
            "--max-tokens",
            "0",
        ],
        &[
            "generate", "--model", "m", "--prompt", "p", "--device", "tpu",
        ],
        &[
            "generate", "--model", "m", "--prompt", "p", "--dtype", "int4",
        ],
        &[
            "generate", "--model", "m", "--prompt", "p", "--top-p", "1.5",
        ],
        &["chat"],
        &["info"],
        &["logits", "--model", "m", "--tokens", "1"],
        &["logits", "--model", "m", "--out", "f"],
    ];
    for args in wrong {
        let output = output(ml().args(*args));
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert_eq!(text(&output.stdout), "", "{args:?}");
        assert_ne!(text(&output.stderr), "", "{args:?}");
    }
}

#[test]
fn help_and_version_exit_0() {
    for args in [&["--help"][..], &["--version"], &["generate", "--help"]] {
        assert!(!stdout(ml().args(args)).is_empty(), "{args:?}");
    }
}

fn with_config(config: &str) -> TempDir {
    let dir = TempDir::new().expect("a temporary folder");
    fs::write(dir.path().join("config.json"), config).expect("it can be written");
    dir
}

fn truncated() -> TempDir {
    let dir = without_tokenizer();
    let weights = dir.path().join("model.safetensors");
    let bytes = fs::read(&weights).expect("the demo model has weights");
    fs::write(&weights, &bytes[..bytes.len() / 2]).expect("it can be written");
    dir
}

/// Each directory with what its error line has to name.
fn unusable_directories() -> [(TempDir, &'static str); 4] {
    [
        (TempDir::new().expect("a temporary folder"), "config.json"),
        (with_config(r#"{"model_type": "qwen3","#), "config.json"),
        (with_config(r#"{"model_type": "mamba"}"#), "mamba"),
        (truncated(), "model.safetensors"),
    ]
}

#[test]
fn an_unusable_directory_is_one_clear_line_within_a_second() {
    for (dir, named) in unusable_directories() {
        for command in ["generate", "chat", "info", "logits"] {
            let mut ml = ml();
            ml.arg(command).arg("--model").arg(dir.path());
            match command {
                "generate" => ml.args(["--prompt", "hello"]),
                "logits" => ml
                    .args(["--tokens", "1", "--out"])
                    .arg(dir.path().join("out")),
                _ => &mut ml,
            };
            let start = Instant::now();
            let line = failure(&mut ml);
            assert!(
                start.elapsed() < Duration::from_secs(1),
                "{:?}",
                start.elapsed()
            );
            assert!(line.contains(named), "{line}");
            assert!(line.contains(&*dir.path().to_string_lossy()), "{line}");
        }
    }
}

#[test]
fn an_unsupported_model_type_is_told_what_is_supported() {
    let dir = with_config(r#"{"model_type": "mamba"}"#);
    let line = failure(ml().args(["info", "--model"]).arg(dir.path()));
    assert!(line.contains("qwen3") && line.contains("gemma3"), "{line}");
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let line = failure(ml().args(["info", "--model", "no/such/model"]));
    assert!(line.contains("no/such/model"), "{line}");
}

#[test]
fn a_missing_accelerator_is_an_error_that_says_so() {
    let missing = if cfg!(target_os = "macos") {
        "cuda"
    } else {
        "metal"
    };
    let mut ml = ml();
    ml.args([
        "generate", "--prompt", "hello", "--device", missing, "--model",
    ])
    .arg(demo());
    let line = failure(&mut ml);
    assert!(line.contains(missing), "{line}");
}

#[test]
fn the_demo_model_answers_on_standard_output_and_reports_on_standard_error() {
    let output =
        output(with_demo("generate").args(["--prompt", "What is 17 + 25?", "--temp", "0"]));
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let answer = text(&output.stdout);
    assert!(
        answer.contains("42") && answer.ends_with('\n'),
        "{answer:?}"
    );
    let first = stderr.lines().next().unwrap_or_default();
    assert!(
        first.starts_with("device cpu") && first.contains("MLX 0."),
        "{first}"
    );
    assert!(stderr.contains("tokens at"), "{stderr}");
}

#[test]
fn a_prompt_comes_from_standard_input_too() {
    let args = ["--prompt", "-", "--temp", "0"];
    for input in [
        &b"What is 17 + 25?"[..],
        b"What is 17 + 25?\n",
        b"What is 17 + 25?\r\n",
    ] {
        let output = feed(with_demo("generate").args(args), input);
        assert!(text(&output.stdout).contains("42"), "{output:?}");
    }
    let line = String::from_utf8(feed(with_demo("generate").args(args), b"caf\xe9").stderr);
    assert!(line.unwrap().contains("not UTF-8 text (byte 3)"));
    let empty = feed(with_demo("generate").args(args), b"\n");
    assert_eq!(empty.status.code(), Some(1));
    assert!(text(&empty.stderr).starts_with("ml: the prompt is empty"));
}

#[test]
fn json_is_one_object_with_text_ids_and_figures() {
    let prompt = ["--prompt", "What is 17 + 25?", "--temp", "0"];
    let plain = stdout(with_demo("generate").args(prompt));
    let json = stdout(with_demo("generate").args(prompt).arg("--json"));
    assert_eq!(json.lines().count(), 1);
    let object: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(object["text"].as_str(), Some(plain.trim_end()));
    assert_eq!(object["finish_reason"], "stop");
    assert_eq!(object["device"], "cpu");
    let ids = object["token_ids"].as_array().unwrap();
    assert_eq!(object["metrics"]["generated_tokens"], ids.len());
    for figure in [
        "prompt_tokens",
        "time_to_first_token_s",
        "peak_memory_bytes",
        "total_time_s",
    ] {
        assert!(
            object["metrics"][figure].as_f64().unwrap() > 0.0,
            "{figure}: {json}"
        );
    }
}

#[test]
fn ids_in_and_ids_out_need_no_tokenizer() {
    let dir = without_tokenizer();
    let mut ml = ml();
    ml.args([
        "generate", "--device", "cpu", "--temp", "0", "--tokens", "5,6,7",
    ]);
    ml.args(["--max-tokens", "4", "--ignore-eos", "--model"])
        .arg(dir.path());
    let line = failure(&mut ml);
    assert!(line.contains("--print-ids"), "{line}");

    let ids = stdout(ml.arg("--print-ids"));
    assert_eq!(ids.lines().count(), 1);
    assert_eq!(
        ids.trim_end()
            .split(',')
            .filter(|id| id.parse::<u32>().is_ok())
            .count(),
        4
    );
    let mut same = with_demo("generate");
    same.args([
        "--temp",
        "0",
        "--tokens",
        "5,6,7",
        "--max-tokens",
        "4",
        "--ignore-eos",
    ]);
    assert_eq!(stdout(same.arg("--print-ids")), ids);
}

#[test]
fn a_token_id_outside_the_vocabulary_is_refused() {
    let line = failure(with_demo("generate").args(["--tokens", "4000000000", "--print-ids"]));
    assert!(line.contains("4000000000"), "{line}");
}

#[test]
fn the_largest_of_the_written_logits_is_the_greedy_token() {
    let dir = without_tokenizer();
    let file = dir.path().join("logits.safetensors");
    let mut ml = ml();
    ml.args(["logits", "--device", "cpu", "--tokens", "5,6,7", "--model"])
        .arg(dir.path());
    stdout(ml.arg("--out").arg(&file));

    let bytes = fs::read(&file).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let logits = tensors.tensor("logits").unwrap();
    assert_eq!(logits.dtype(), safetensors::Dtype::F32);
    let [3, vocabulary] = logits.shape()[..] else {
        panic!("{:?}", logits.shape())
    };
    let last = logits.data()[2 * vocabulary * 4..].chunks_exact(4);
    let last: Vec<f32> = last
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect();
    let best = (0..vocabulary)
        .max_by(|&a, &b| last[a].total_cmp(&last[b]))
        .unwrap();

    let mut greedy = with_demo("generate");
    greedy.args(["--tokens", "5,6,7", "--print-ids", "--ignore-eos"]);
    let id = stdout(greedy.args(["--temp", "0", "--max-tokens", "1"]));
    assert_eq!(id.trim_end(), best.to_string());
}

#[test]
fn a_seed_makes_an_answer_repeatable() {
    let answer = |seed: &str| {
        let mut ml = with_demo("generate");
        ml.args([
            "--prompt",
            "hello",
            "--raw",
            "--temp",
            "2",
            "--max-tokens",
            "12",
        ]);
        stdout(ml.args(["--ignore-eos", "--print-ids", "--seed", seed]))
    };
    assert_eq!(answer("1"), answer("1"));
    assert_ne!(answer("1"), answer("2"));
}

#[test]
fn info_names_what_there_is() {
    let object: Value = serde_json::from_str(&stdout(with_demo("info").arg("--json"))).unwrap();
    assert_eq!(object["model_type"], "qwen3");
    for figure in [
        "layers",
        "parameters",
        "weight_bytes",
        "cache_bytes_per_token",
        "vocab_size",
    ] {
        assert!(object[figure].as_u64().unwrap() > 0, "{figure}: {object}");
    }
    assert_eq!(object["device"]["kind"], "cpu");
    let text = stdout(&mut with_demo("info"));
    for name in [
        "architecture",
        "parameters",
        "quantization",
        "weights",
        "cache",
        "device",
        "MLX",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(name)),
            "{name}: {text}"
        );
    }
}

#[test]
fn info_shows_a_model_where_the_native_library_is_missing() {
    let nowhere = TempDir::new().unwrap();
    let mut ml = ml();
    ml.args(["info", "--model"])
        .arg(demo())
        .env("MLX_NATIVE_DIR", nowhere.path());
    let text = stdout(&mut ml);
    assert!(
        text.contains("Qwen3") && text.contains("not loaded"),
        "{text}"
    );
}

#[test]
fn a_closed_pipe_exits_0_quietly() {
    let mut ml = with_demo("generate");
    ml.args(["--prompt", "hello", "--ignore-eos", "--max-tokens", "50"]);
    let mut child = ml
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(!text(&output.stderr).contains("ml:"), "{output:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_a_failure() {
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = output(
        with_demo("generate")
            .args(["--prompt", "hello"])
            .stdout(full),
    );
    assert_eq!(output.status.code(), Some(1));
    let last = text(&output.stderr).lines().last().unwrap_or_default();
    assert!(
        last.starts_with("ml: cannot write to standard output"),
        "{last}"
    );
}

/// Sends Ctrl-C.
fn interrupt(child: &Child) {
    let id = child.id().to_string();
    let status = Command::new("kill")
        .args(["-INT", &id])
        .status()
        .expect("kill runs");
    assert!(status.success());
}

#[test]
fn ctrl_c_prints_what_was_there_and_exits_130() {
    let mut ml = with_demo("generate");
    ml.args([
        "--prompt",
        "hello",
        "--raw",
        "--ignore-eos",
        "--temp",
        "2",
        "--max-tokens",
        "100000",
    ]);
    let mut child = ml
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut begin = [0];
    stdout.read_exact(&mut begin).unwrap();
    interrupt(&child);
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("ended by cancelled"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn ctrl_c_does_not_wait_for_a_long_prompt() {
    let ids = vec!["5"; 1000].join(",");
    let mut ml = with_demo("generate");
    // Without the kernels such a prompt takes 20 seconds.
    ml.args(["--tokens", &ids, "--print-ids", "--plain-mlx"]);
    let mut child = ml
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("loaded") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it ended early");
    }
    std::thread::sleep(Duration::from_millis(200));
    interrupt(&child);
    let start = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_chat_goes_over_a_pipe() {
    let lines = "What is 17 + 25?\n/reset\n/help\n\n/nonsense\nWhat is 17 + 25?\n/quit\nignored\n";
    let output = feed(with_demo("chat").args(["--temp", "0"]), lines.as_bytes());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let answers: Vec<&str> = text(&output.stdout).lines().collect();
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert!(answers[0].contains("42"), "{answers:?}");
    assert_eq!(answers[0], answers[1], "/reset forgot the first");
    let stderr = text(&output.stderr);
    assert!(stderr.contains("/reset  forget") && stderr.contains("no command /nonsense"));
}

#[test]
fn a_chat_ends_with_its_input_and_refuses_what_is_no_text() {
    let output = feed(&mut with_demo("chat"), b"");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = feed(&mut with_demo("chat"), b"\xff\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("ml: line 1 of standard input is not UTF-8"));
}
