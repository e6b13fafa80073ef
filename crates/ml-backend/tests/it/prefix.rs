//! A prompt is read once: what that changes, and that no text is among it.

use std::path::Path;
use std::time::{Duration, Instant};

use bench_shapes::{Shape, Weights, checkpoint};
use ml_backend::{Device, Generation, MlxBackend, MlxBackendBuilder, Options};
use tempfile::TempDir;

use crate::random_weights::config;

/// Tokens of a page, and of a chunk in these tests.
const PAGE: usize = 256;
const CHUNK: usize = 128;

/// A model of random weights.
fn model(model_type: &str, window: usize, weights: Weights) -> TempDir {
    let dir = TempDir::new().unwrap();
    let shape = Shape::of("tiny", config(model_type, window, 1)).unwrap();
    checkpoint::write_hollow(dir.path(), &shape, weights).unwrap();
    dir
}

fn builder<'a>() -> MlxBackendBuilder<'a> {
    MlxBackend::builder()
        .device(Device::Cpu)
        .random_weights(true)
}

/// The token at `place` of a text that parts from the others of its `kind` nowhere.
fn tokens(kind: usize, count: usize) -> Vec<u32> {
    let id = |place: usize| ((place * place * 31 + place * 7 + kind * 131) % 990) as u32;
    (0..count).map(id).collect()
}

/// `same` tokens of one text, and then others.
fn parting(same: usize, kind: usize, count: usize) -> Vec<u32> {
    let mut all = tokens(0, same.min(count));
    all.extend(tokens(kind, count - all.len()));
    all
}

fn greedy() -> Options {
    let options = Options::new().temperature(0.0).ignore_eos(true);
    options.max_tokens(6).prefill_chunk(CHUNK).logprobs(3)
}

fn run(backend: &MlxBackend, prompt: &[u32]) -> Generation {
    backend.generate_ids(prompt, &greedy()).unwrap()
}

/// The tokens and, to the bit, how probable they and others were.
fn same(found: &Generation, wanted: &Generation, what: &str) {
    assert_eq!(found.token_ids, wanted.token_ids, "{what}");
    assert_eq!(found.logprobs, wanted.logprobs, "{what}");
}

/// Prompts, each with how much of it need not be read where nothing is forgotten and rows of many do not depend on each
/// other.
fn prompts() -> Vec<(Vec<u32>, usize)> {
    vec![
        (tokens(0, 700), 0),
        // With more at its end; the same again, up to what is read as many rows.
        (tokens(0, 730), 700),
        (tokens(0, 730), 730 - 17),
        // Parting from it, in the middle of a chunk and where one ends.
        (parting(333, 1, 600), 333),
        (parting(512, 2, 777), 512),
        // A beginning of it; one whose last chunk is few rows.
        (tokens(0, 450), 450 - 17),
        (tokens(0, 2 * CHUNK + 9), 2 * CHUNK),
        // Another one, and the first one again.
        (tokens(5, 300), 0),
        (tokens(0, 700), 700 - 17),
    ]
}

#[test]
fn texts_are_the_same_to_the_bit_of_every_family() {
    for family in arch::families::ALL {
        let name = family.model_types[0];
        // A window of less than a page, and one of more.
        for (weights, window) in [(Weights::Q4, 16), (Weights::Bf16, 300)] {
            let dir = model(name, window, weights);
            let with = builder().load(dir.path()).unwrap();
            let without = builder().prefix_cache(0).load(dir.path()).unwrap();
            let config = config(name, window, 1).to_string();
            let mut reused = 0;
            for (prompt, _) in prompts().into_iter().step_by(2) {
                let [found, wanted] = [&with, &without].map(|backend| run(backend, &prompt));
                same(&found, &wanted, &format!("{name}, {weights}, {config}"));
                assert_eq!(wanted.metrics.reused_tokens, 0);
                reused += found.metrics.reused_tokens;
            }
            // A third of all tokens at the least, whatever is forgotten.
            assert!(reused > 1057, "{name}, {weights}: {reused} tokens of 3,172");
        }
    }
}

#[test]
fn what_need_not_be_read_is_not() {
    let dir = model("qwen3", 16, Weights::Q4);
    let backend = builder().load(dir.path()).unwrap();
    for (prompt, known) in prompts() {
        let length = prompt.len();
        assert_eq!(
            run(&backend, &prompt).metrics.reused_tokens,
            known,
            "of {length}"
        );
    }
    // What is not run has no probabilities, and what decoding made is for those who ask for it.
    let asking = greedy().prompt_logprobs(1);
    let asked = backend.generate_ids(&tokens(0, 700), &asking).unwrap();
    assert_eq!(
        (asked.metrics.reused_tokens, asked.prompt_logprobs.len()),
        (0, 699)
    );
    let first = run(&backend, &tokens(7, 300));
    let mut longer = tokens(7, 300);
    longer.extend(&first.token_ids);
    longer.extend(tokens(8, 40));
    let reuse = greedy().reuse_prefix(true);
    let all = backend.generate_ids(&longer, &reuse).unwrap();
    // All that was generated but the token that came last, which nobody has run.
    assert_eq!(all.metrics.reused_tokens, 300 + 5);
    // Of what came of that nobody makes use who has not asked.
    assert_eq!(run(&backend, &longer).metrics.reused_tokens, 300);
    let mut longest = longer.clone();
    longest.extend(tokens(9, 40));
    let found = run(&backend, &longest);
    let without = builder().prefix_cache(0).load(dir.path()).unwrap();
    same(
        &found,
        &run(&without, &longest),
        "behind what decoding made",
    );
}

/// Caches in buffers, as on GPUs: a request has a copy of what was kept, up to the last whole chunk.
#[test]
fn buffers_are_kept_too() {
    for (name, window, forgets) in [
        ("qwen3", 16, false),
        ("gemma3_text", 300, true),
        ("qwen3_5_text", 16, true),
    ] {
        let dir = model(name, window, Weights::Bf16);
        let plain = || builder().plain_mlx(true);
        let with = plain().load(dir.path()).unwrap();
        let without = plain().prefix_cache(0).load(dir.path()).unwrap();
        // Little room: what is kept goes, and nothing waits.
        let little = plain().memory_limit(24 << 20).load(dir.path()).unwrap();
        for (prompt, _) in prompts().into_iter().step_by(4) {
            let wanted = run(&without, &prompt);
            assert_eq!(wanted.metrics.reused_tokens, 0);
            for backend in [&with, &little] {
                same(&run(backend, &prompt), &wanted, name);
            }
        }
        // What begins like the first: as far as whole chunks go that both have.
        for (prompt, known) in [
            (parting(333, 6, 400), 2 * CHUNK),
            (tokens(0, 730), 5 * CHUNK),
        ] {
            let found = run(&with, &prompt);
            same(&found, &run(&without, &prompt), name);
            let reused = found.metrics.reused_tokens;
            // Of what is forgotten, as far as something was kept.
            assert!(
                reused == known || forgets && reused < known,
                "{name}: {reused}"
            );
            assert!(reused > 0 || known < 4 * CHUNK, "{name}: {known}");
        }
        let first = run(&with, &tokens(7, 300));
        let mut longer = tokens(7, 300);
        longer.extend(&first.token_ids);
        longer.extend(tokens(8, 40));
        let reuse = greedy().reuse_prefix(true);
        let all = with.generate_ids(&longer, &reuse).unwrap();
        assert_eq!(all.metrics.reused_tokens, 300 + 5, "{name}");
        let found = run(&with, &longer);
        same(&found, &run(&without, &longer), "behind what decoding made");
    }
}

/// Several at once, in any order, with room for little: texts depend on nothing.
#[test]
fn no_schedule_changes_a_text() {
    for (name, window) in [("qwen3", 16), ("gemma3_text", 300), ("qwen3_5_text", 16)] {
        let dir = model(name, window, Weights::Q4);
        let without = builder().prefix_cache(0).load(dir.path()).unwrap();
        let kinds: Vec<Vec<u32>> = (0..12)
            .map(|i| parting([0, 40, 300, 520][i % 4], i + 1, 200 + 61 * i))
            .collect();
        let wanted: Vec<Generation> = kinds.iter().map(|prompt| run(&without, prompt)).collect();
        // Some of them; all; and so little memory that requests wait, and what is kept goes first.
        for (kept, memory) in [
            (2_u64 << 20, None),
            (1 << 30, None),
            (1 << 30, Some(12_u64 << 20)),
        ] {
            let mut loading = builder().prefix_cache(kept).at_once(3);
            if let Some(bytes) = memory {
                loading = loading.memory_limit(bytes);
            }
            let with = loading.load(dir.path()).unwrap();
            let mut state = kept + 1;
            for _ in 0..3 {
                let mut some = Vec::new();
                for _ in 0..4 {
                    state = state
                        .wrapping_mul(6364136223846793005)
                        .wrapping_add(1442695040888963407);
                    some.push((state >> 33) as usize % kinds.len());
                }
                let streams: Vec<_> = some
                    .iter()
                    .map(|i| with.stream_ids(&kinds[*i], &greedy()).unwrap())
                    .collect();
                for (i, mut stream) in some.iter().zip(streams) {
                    stream.by_ref().for_each(|token| drop(token.unwrap()));
                    same(
                        stream.generation().unwrap(),
                        &wanted[*i],
                        &format!("{name}, {kept} bytes, prompt {i}"),
                    );
                }
            }
        }
    }
}

/// A process that ends and the next one, as far as the files go.
fn in_dir(model: &Path, to: &Path, prompt: &[u32]) -> Generation {
    run(&builder().prefix_dir(to).load(model).unwrap(), prompt)
}

fn files(to: &Path) -> Vec<std::path::PathBuf> {
    let folders = std::fs::read_dir(to)
        .unwrap()
        .map(|folder| folder.unwrap().path());
    let folders = folders.filter(|folder| !folder.ends_with("digests"));
    let mut files: Vec<_> = folders
        .flat_map(|folder| std::fs::read_dir(folder).unwrap())
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    files
}

#[test]
fn the_next_process_reads_the_prompt_from_disk() {
    for (name, window, known) in [
        ("qwen3", 16, 5 * PAGE),
        ("gemma3_text", 300, 5 * PAGE),
        // Behind a whole chunk, where a state was kept.
        ("qwen3_5_text", 16, 5 * PAGE),
    ] {
        let dir = model(name, window, Weights::Q4);
        let to = TempDir::new().unwrap();
        let prompt = tokens(0, 5 * PAGE + 30);
        let without = builder().prefix_cache(0).load(dir.path()).unwrap();
        let wanted = run(&without, &prompt);
        // The model's files are read meanwhile, and what is read before that is not kept.
        let end = Instant::now() + Duration::from_secs(20);
        while files(to.path()).is_empty() && Instant::now() < end {
            same(&in_dir(dir.path(), to.path(), &prompt), &wanted, name);
        }
        let found = in_dir(dir.path(), to.path(), &prompt);
        same(&found, &wanted, name);
        assert_eq!(found.metrics.reused_tokens, known, "{name}");
        // One that begins alike takes what is alike.
        let mut longer = tokens(0, 3 * PAGE + 40);
        longer.extend(tokens(3, 500));
        let found = in_dir(dir.path(), to.path(), &longer);
        same(&found, &run(&without, &longer), name);
        if name == "qwen3" {
            assert_eq!(found.metrics.reused_tokens, 3 * PAGE);
        }
    }
}

#[test]
fn a_damaged_file_is_removed_and_the_prompt_read_anew() {
    let dir = model("qwen3", 16, Weights::Q4);
    let to = TempDir::new().unwrap();
    let prompt = tokens(0, 2 * PAGE + 30);
    let without = builder().prefix_cache(0).load(dir.path()).unwrap();
    let wanted = run(&without, &prompt);
    let write = || {
        let end = Instant::now() + Duration::from_secs(20);
        while files(to.path()).len() < 2 && Instant::now() < end {
            in_dir(dir.path(), to.path(), &prompt);
        }
        files(to.path())
    };
    for (place, damage) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let file = write()[place].clone();
        let mut bytes = std::fs::read(&file).unwrap();
        match damage {
            0 => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 4;
            }
            _ => bytes.truncate(bytes.len() - 1),
        }
        std::fs::write(&file, &bytes).unwrap();
        same(&in_dir(dir.path(), to.path(), &prompt), &wanted, "damaged");
        // It is whole again, or gone.
        let now = std::fs::read(&file);
        assert!(now.is_err() || now.is_ok_and(|now| now != bytes));
    }
}

#[test]
fn a_folder_that_cannot_be_used_is_said() {
    let dir = model("qwen3", 16, Weights::Q4);
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = builder()
        .prefix_dir(file.path())
        .load(dir.path())
        .err()
        .unwrap();
    let text = error.to_string();
    assert!(
        text.contains("cannot keep prompts in") && text.contains("can be written"),
        "{text}"
    );
}
