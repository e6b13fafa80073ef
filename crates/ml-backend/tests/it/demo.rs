//! The public API on the demo models: what a program that uses this crate relies on.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use ml_backend::{
    Backend, CancelToken, Device, DeviceKind, Dtype, Error, FinishReason, Message, MlxBackend,
    MlxBackendBuilder, Options, Progress, StreamingBackend,
};

fn dir(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../assets/models")
        .join(model)
}

fn load(model: &str) -> MlxBackend {
    load_with(model, |builder| builder)
}

fn load_with(
    model: &str,
    more: impl FnOnce(MlxBackendBuilder<'static>) -> MlxBackendBuilder<'static>,
) -> MlxBackend {
    let builder = MlxBackend::builder()
        .device(crate::common::device())
        .dtype(Some(Dtype::Float32));
    let loaded = more(builder).load(dir(model));
    loaded.expect("the demo model loads")
}

/// One that keeps of prompts only what the last one left.
fn load_forgetful(model: &str) -> MlxBackend {
    load_with(model, |builder| builder.prefix_cache(0))
}

/// One model for all tests: any thread may use it.
fn qwen() -> &'static MlxBackend {
    static BACKEND: OnceLock<MlxBackend> = OnceLock::new();
    BACKEND.get_or_init(|| load("qwen3-demo"))
}

fn gemma() -> &'static MlxBackend {
    static BACKEND: OnceLock<MlxBackend> = OnceLock::new();
    BACKEND.get_or_init(|| load("gemma3-demo"))
}

fn greedy() -> Options {
    Options::new().temperature(0.0).max_tokens(48)
}

fn ask(question: &str) -> Vec<Message> {
    vec![Message::user(question)]
}

/// Where the weights lie in the mapped file, this ends the process with a bus error.
#[cfg(unix)]
#[test]
fn copied_weights_survive_the_end_of_their_file() {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(dir("qwen3-demo")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let load = |plain| {
        let builder = MlxBackend::builder().device(crate::common::device());
        builder
            .plain_mlx(plain)
            .copy_weights(true)
            .load(copy.path())
            .unwrap()
    };
    let models = [load(false), load(true)];
    let weights = copy.path().join("model.safetensors");
    let file = std::fs::File::options().write(true).open(weights).unwrap();
    file.set_len(0).unwrap();
    for model in models {
        let answer = model.chat(&ask("What is 17 + 25?"), &greedy()).unwrap();
        assert_eq!(answer.text, "42");
    }
}

#[test]
fn loading_tells_what_was_loaded() {
    let mut device = None;
    let mut last = (0, 0);
    let backend = MlxBackend::builder()
        .device(crate::common::device())
        .memory_limit(1 << 30)
        .cache_limit(u64::MAX)
        .progress(|step| match step {
            Progress::Device(info) => device = Some(info),
            Progress::Weights { bytes, total } => last = (bytes, total),
            _ => {}
        })
        .load(dir("qwen3-demo"))
        .unwrap();
    let info = backend.info();
    assert_eq!(device.as_ref(), Some(&info.device));
    assert!(info.model.layers > 0);
    assert_eq!(last, (info.model.weight_bytes, info.model.weight_bytes));
    assert_eq!(info.limits.memory, 1 << 30);
    assert_eq!(
        info.limits.cache, info.device.memory_bytes,
        "never above what the machine has"
    );
    assert_eq!((backend.name(), backend.available()), ("mlx", true));
}

#[test]
fn the_pieces_of_an_answer_are_the_answer() {
    for backend in [qwen(), gemma()] {
        let mut pieces = Vec::new();
        let messages = ask("Spell the word garden.");
        let streamed = backend
            .chat_stream(&messages, &greedy(), &mut |piece| {
                pieces.push(piece.to_owned());
                Ok(())
            })
            .unwrap();
        assert_eq!(pieces.concat(), streamed.text);
        assert!(pieces.len() > 1, "{pieces:?}");
        assert!(pieces.iter().all(|piece| !piece.is_empty()), "{pieces:?}");
        assert!(!streamed.text.starts_with(' '), "{:?}", streamed.text);
        assert_eq!(streamed.finish_reason, FinishReason::Stop);

        assert_eq!(
            backend.chat(&messages, &greedy()).unwrap().text,
            streamed.text
        );
        let mut stream = backend.stream_chat(&messages, &greedy()).unwrap();
        let text: String = stream.by_ref().map(|piece| piece.unwrap().text).collect();
        assert_eq!(text, streamed.text);
        assert_eq!(stream.generation().unwrap().token_ids, streamed.token_ids);
    }
}

#[test]
fn the_size_of_prefill_chunks_does_not_change_the_answer() {
    for backend in [qwen(), gemma()] {
        let messages = ask("What is 123 + 456?");
        let whole = backend.chat(&messages, &greedy()).unwrap();
        for chunk in [1, 7] {
            let chunked = backend
                .chat(&messages, &greedy().prefill_chunk(chunk))
                .unwrap();
            assert_eq!(chunked.token_ids, whole.token_ids, "chunks of {chunk}");
        }
    }
}

#[test]
fn figures_are_those_of_the_run() {
    let answer = qwen().chat(&ask("What is 17 + 25?"), &greedy()).unwrap();
    let prompt = qwen()
        .render_chat(&ask("What is 17 + 25?"), &greedy())
        .unwrap();
    let metrics = &answer.metrics;
    assert_eq!(metrics.prompt_tokens, qwen().encode(&prompt).unwrap().len());
    assert_eq!(metrics.generated_tokens, answer.token_ids.len());
    let first = metrics.time_to_first_token.unwrap();
    assert!(Duration::ZERO < first && first <= metrics.total_time);
    assert!(metrics.prefill_tokens_per_second.unwrap() > 0.0);
    assert!(metrics.decode_tokens_per_second.unwrap() > 0.0);
    assert!(metrics.peak_memory_bytes > 0);
}

#[test]
fn a_program_may_not_know_which_backend_it_holds() {
    let backend: Box<dyn StreamingBackend> = Box::new(qwen().clone());
    let mut text = String::new();
    let ids = qwen().encode("17 + 25").unwrap();
    let answer = backend
        .generate_stream("17 + 25", &greedy().max_tokens(4), &mut |piece| {
            text.push_str(piece);
            Ok(())
        })
        .unwrap();
    assert_eq!(text, answer.text);
    assert_eq!(
        answer.metrics.prompt_tokens,
        ids.len(),
        "the prompt is taken as it is"
    );
}

#[test]
fn many_threads_ask_one_model_and_each_gets_its_answer() {
    let questions = ["What is 1 + 1?", "What is 20 + 30?", "Spell the word tree."];
    let expected: Vec<String> = questions
        .map(|question| qwen().chat(&ask(question), &greedy()).unwrap().text)
        .into();
    std::thread::scope(|scope| {
        for (question, expected) in questions.iter().zip(&expected) {
            let backend = qwen().clone();
            scope.spawn(move || {
                assert_eq!(
                    &backend.chat(&ask(question), &greedy()).unwrap().text,
                    expected
                );
            });
        }
    });
}

#[test]
fn two_models_run_side_by_side() {
    std::thread::scope(|scope| {
        let answers = [qwen(), gemma()]
            .map(|backend| scope.spawn(|| backend.chat(&ask("What is 17 + 25?"), &greedy())));
        for answer in answers {
            assert_eq!(answer.join().unwrap().unwrap().text, "42");
        }
    });
}

#[test]
fn a_model_is_freed_and_loaded_again() {
    let expected = qwen()
        .generate_ids(&[5, 6, 7], &greedy())
        .unwrap()
        .token_ids;
    for _ in 0..4 {
        let backend = load("qwen3-demo");
        assert_eq!(
            backend
                .generate_ids(&[5, 6, 7], &greedy())
                .unwrap()
                .token_ids,
            expected
        );
    }
}

#[test]
fn a_generation_is_cancelled_from_another_thread() {
    let cancel = CancelToken::new();
    let options = Options::new()
        .ignore_eos(true)
        .max_tokens(900)
        .cancel(cancel.clone());
    let (started, begun) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            begun.recv().unwrap();
            cancel.cancel();
        });
        let mut given = String::new();
        let outcome = qwen().generate_stream("hello", &options, &mut |piece| {
            given.push_str(piece);
            let _ = started.send(());
            Ok(())
        });
        let Err(Error::Cancelled { partial }) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(partial.text, given);
        assert!(!partial.token_ids.is_empty() && partial.token_ids.len() < 900);
    });
}

#[test]
fn the_next_turn_of_a_chat_runs_only_what_is_new() {
    for (name, plain) in [("qwen3-demo", qwen()), ("gemma3-demo", gemma())] {
        // Its own: other tests generate in between on the shared ones.
        let backend = load_forgetful(name);
        let reuse = greedy().reuse_prefix(true);
        let mut messages = ask("What is 17 + 25?");
        let mut held = 0;
        for question in ["What is 123 + 456?", "What is 9 * 8?", "What is 70 - 4?"] {
            let answer = backend.chat(&messages, &reuse).unwrap();
            let expected = plain.chat(&messages, &greedy()).unwrap();
            assert_eq!(answer.token_ids, expected.token_ids, "{name}: {messages:?}");
            assert_eq!(answer.metrics.prompt_tokens, expected.metrics.prompt_tokens);
            let reused = answer.metrics.reused_tokens;
            assert!(
                reused >= held,
                "{name}: {reused} of {held} tokens were reused"
            );
            held = answer.metrics.prompt_tokens + answer.token_ids.len();
            messages.push(Message::assistant(&answer.text));
            messages.push(Message::user(question));
        }
    }
}

#[test]
fn what_a_prompt_shares_with_the_last_one_is_reused_and_no_more() {
    let backend = load_forgetful("qwen3-demo");
    let ids = |text: &str| backend.encode(text).unwrap();
    let run = |prompt: &[u32], options: &Options| {
        let options = options.clone().max_tokens(8).ignore_eos(true);
        let generation = backend.generate_ids(prompt, &options).unwrap();
        (generation.token_ids, generation.metrics.reused_tokens)
    };
    let reuse = greedy().reuse_prefix(true);
    let (first, second) = (ids("What is 17 + 25? It is"), ids("What is 17 + 26? It is"));
    let shared = first
        .iter()
        .zip(&second)
        .take_while(|(a, b)| a == b)
        .count();
    assert!(0 < shared && shared < second.len());
    let expected = [&first, &second].map(|prompt| run(prompt, &greedy()).0);
    backend.logits(&first).unwrap();
    assert_eq!(
        run(&first, &reuse),
        (expected[0].clone(), 0),
        "nothing is held"
    );
    assert_eq!(run(&second, &reuse), (expected[1].clone(), shared));
    let again = (expected[1].clone(), second.len() - 1);
    assert_eq!(
        run(&second, &reuse),
        again,
        "the last token is run for its logits"
    );
    assert_eq!(run(&second[..1], &reuse).1, 0, "one token is the last one");
    // What was generated counts as well.
    let mut longer = first.clone();
    longer.extend(run(&first, &greedy()).0);
    assert_eq!(run(&longer, &reuse).1, longer.len() - 1);
    assert_eq!(run(&longer, &greedy()).1, 0, "only who asks for it");
    // A generation that was cancelled leaves what it had run.
    let cancel = CancelToken::new();
    cancel.cancel();
    let cancelled = backend.generate_ids(&second, &reuse.clone().cancel(cancel));
    assert!(
        matches!(cancelled, Err(Error::Cancelled { .. })),
        "{cancelled:?}"
    );
    assert_eq!(run(&first, &reuse).0, expected[0]);
}

/// A turn may be taken back although its tokens have pushed others out of the windows.
#[test]
fn windows_go_back_by_a_page_on_a_cpu() {
    if crate::common::device() != Device::Cpu {
        eprintln!("skipped: ML_TEST_DEVICE is not the CPU");
        return;
    }
    let backend = load_forgetful("gemma3-demo");
    let reuse = greedy().max_tokens(8).ignore_eos(true).reuse_prefix(true);
    let prompt: Vec<u32> = (0..700).map(|i| 5 + i * i * 7 % 50).collect();
    let run = |parts_at: usize, options: &Options| {
        let mut prompt = prompt.clone();
        prompt[parts_at..].iter_mut().for_each(|id| *id += 1);
        let generation = backend.generate_ids(&prompt, options).unwrap();
        (generation.token_ids, generation.metrics.reused_tokens)
    };
    let alone = reuse.clone().reuse_prefix(false);
    for (parts_at, reused) in [(690, 690), (460, 460), (100, 0)] {
        let expected = run(parts_at, &alone).0;
        run(700, &alone);
        assert_eq!(run(parts_at, &reuse), (expected, reused), "at {parts_at}");
    }
}

#[test]
fn the_seed_decides_what_is_drawn() {
    let draw = |seed| {
        let options = Options::new()
            .temperature(1.5)
            .max_tokens(16)
            .ignore_eos(true)
            .seed(seed);
        qwen().generate("hello", &options).unwrap().token_ids
    };
    assert_eq!(draw(3), draw(3));
    assert_ne!(draw(3), draw(4));
}

#[test]
fn one_candidate_left_is_the_greedy_one() {
    let hot = || greedy().temperature(5.0);
    let expected = qwen()
        .chat(&ask("What is 40 - 15?"), &greedy())
        .unwrap()
        .token_ids;
    for options in [hot().top_k(1), hot().top_p(1e-6), hot().min_p(1.0)] {
        let drawn = qwen()
            .chat(&ask("What is 40 - 15?"), &options)
            .unwrap()
            .token_ids;
        assert_eq!(drawn, expected, "{options:?}");
    }
}

#[test]
fn a_stop_text_is_not_in_the_answer() {
    let whole = qwen()
        .chat(&ask("Spell the word garden."), &greedy())
        .unwrap()
        .text;
    let (before, stop) = whole.split_at(whole.len() - 3);
    let options = greedy().stop(stop);
    let answer = qwen()
        .chat(&ask("Spell the word garden."), &options)
        .unwrap();
    assert_eq!(
        (answer.text.as_str(), answer.finish_reason),
        (before, FinishReason::StopText)
    );
}

#[test]
fn the_context_is_a_limit_that_is_told() {
    let context = qwen().info().model.max_position_embeddings.unwrap();
    let outcome = qwen().generate_ids(&vec![5; context], &greedy());
    assert!(
        matches!(outcome, Err(Error::PromptTooLong { .. })),
        "{outcome:?}"
    );
    let options = greedy().ignore_eos(true);
    let full = qwen()
        .generate_ids(&vec![5; context - 3], &options)
        .unwrap();
    assert_eq!(
        (full.token_ids.len(), full.finish_reason),
        (3, FinishReason::Context)
    );
}

#[test]
fn the_greedy_token_is_the_largest_logit() {
    for backend in [qwen(), gemma()] {
        let ids = backend.encode("What is 17 + 25?").unwrap();
        let vocabulary = backend.info().model.vocab_size;
        let logits = backend.logits(&ids).unwrap();
        assert_eq!(logits.len(), ids.len() * vocabulary);
        let last = &logits[(ids.len() - 1) * vocabulary..];
        let best = (0..vocabulary)
            .max_by(|&a, &b| last[a].total_cmp(&last[b]))
            .unwrap();
        let options = greedy().max_tokens(1).ignore_eos(true);
        assert_eq!(
            backend.generate_ids(&ids, &options).unwrap().token_ids,
            [best as u32]
        );
    }
}

#[test]
fn empty_requests_are_refused() {
    assert!(matches!(
        qwen().generate("", &greedy()),
        Err(Error::EmptyPrompt)
    ));
    assert!(matches!(
        qwen().generate_ids(&[], &greedy()),
        Err(Error::EmptyPrompt)
    ));
    assert!(qwen().chat(&[], &greedy()).is_err());
}

#[test]
fn a_directory_without_a_tokenizer_serves_ids() {
    let bare = tempfile::TempDir::new().unwrap();
    for file in ["config.json", "generation_config.json", "model.safetensors"] {
        std::fs::copy(dir("qwen3-demo").join(file), bare.path().join(file)).unwrap();
    }
    let builder = MlxBackend::builder()
        .device(crate::common::device())
        .dtype(Some(Dtype::Float32));
    let backend = builder.load(bare.path()).unwrap();
    assert!(!backend.has_tokenizer());
    assert!(matches!(
        backend.generate("hello", &greedy()),
        Err(Error::NoTokenizer { .. })
    ));
    let answer = backend.generate_ids(&[5, 6, 7], &greedy()).unwrap();
    assert_eq!(
        answer.token_ids,
        qwen()
            .generate_ids(&[5, 6, 7], &greedy())
            .unwrap()
            .token_ids
    );
    assert_eq!(answer.text, "");
}

/// What is decided by the device is decided as on a Mac, and computed by the CPU.
#[test]
fn a_mac_is_served_as_its_memory_allows() {
    let device = crate::common::metal_on_cpu();
    let load = |model: &str| {
        let builder = MlxBackend::builder().device(device).auto_wired_limit();
        builder.dtype(Some(Dtype::Float32)).load(dir(model))
    };
    for (model, on_cpu) in [("qwen3-demo", qwen()), ("gemma3-demo", gemma())] {
        let backend = load(model).unwrap();
        let limits = backend.info().limits;
        assert_eq!(backend.info().device.kind, DeviceKind::Metal);
        // The recommended working set; such a small model needs nothing wired.
        assert_eq!((limits.memory, limits.wired), (48 << 30, None));
        let mut messages = ask("What is 17 + 25?");
        let reuse = greedy().reuse_prefix(true);
        let answer = backend.chat(&messages, &reuse).unwrap();
        let right = on_cpu.chat(&messages, &greedy()).unwrap();
        assert_eq!(answer.token_ids, right.token_ids, "{model}");
        // The caches serve the next turn, although they were written by turns.
        messages.push(Message::assistant(&answer.text));
        messages.push(Message::user("What is 30 + 4?"));
        let next = backend.chat(&messages, &reuse).unwrap();
        let right = on_cpu.chat(&messages, &greedy()).unwrap();
        assert_eq!(next.token_ids, right.token_ids, "{model}");
        assert!(next.metrics.reused_tokens > 0, "{model}");
    }
    if std::env::var_os("ML_TEST_DEVICE").is_some() {
        return; // Other tests may be loading on this Mac.
    }
    mlx_core::device::stand_in::play(Some(mlx_core::device::stand_in::Mac {
        memory_bytes: 256 << 20,
        recommended_working_set: 192 << 20,
    }));
    let error = load("qwen3-demo").err().expect("the Mac is too small");
    assert!(
        matches!(error, Error::LargerThanTheMachine { memory, .. } if memory == 256 << 20),
        "{error}"
    );
}

/// A copy of the demo model in which the first number of a tensor of bfloat16 is `bits`.
fn damaged(tensor: &str, bits: u16) -> tempfile::TempDir {
    let copy = tempfile::TempDir::new().unwrap();
    for file in std::fs::read_dir(dir("qwen3-demo")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    let path = copy.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let tensors: serde_json::Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    assert_eq!(tensors[tensor]["dtype"], "BF16");
    let at = header + tensors[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[at..at + 2].copy_from_slice(&bits.to_le_bytes());
    std::fs::write(path, bytes).unwrap();
    copy
}

#[test]
fn logits_that_are_no_numbers_end_a_generation_with_the_likely_cause() {
    const NAN: u16 = 0x7fc0;
    const INFINITY: u16 = 0x7f80;
    for (tensor, bits) in [
        ("model.norm.weight", NAN),
        ("model.norm.weight", INFINITY),
        // All scores of a layer are no numbers then, and no score is the largest.
        ("model.layers.1.input_layernorm.weight", INFINITY),
    ] {
        let dir = damaged(tensor, bits);
        for (dtype, name) in [(None, "bfloat16"), (Some(Dtype::Float32), "float32")] {
            for plain in [false, true] {
                let builder = MlxBackend::builder().device(crate::common::device());
                let builder = builder.dtype(dtype).plain_mlx(plain);
                let backend = builder.load(dir.path()).unwrap();
                for options in [greedy(), Options::new().temperature(1.0).top_k(5).seed(1)] {
                    let error = backend.generate_ids(&[5, 6, 7], &options).unwrap_err();
                    let Error::Interrupted { partial, source } = error else {
                        panic!("{error}")
                    };
                    assert!(matches!(*source, Error::NotNumbers { .. }), "{source}");
                    assert_eq!(partial.token_ids, [0_u32; 0]);
                    let line = source.to_string();
                    assert!(
                        line.contains(name) && line.contains("not numbers"),
                        "{line}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_prompt_that_cannot_fit_is_refused_before_it_is_tokenized() {
    // The error says so: it has bytes and no count of tokens.
    let text = "garden ".repeat(1 << 17);
    for backend in [qwen(), gemma()] {
        let raw = backend.generate(&text, &greedy()).unwrap_err();
        let chat = backend.chat(&ask(&text), &greedy()).unwrap_err();
        for error in [raw, chat] {
            assert!(matches!(error, Error::PromptTooLarge { .. }), "{error}");
        }
    }
}

#[test]
fn logits_end_with_the_context() {
    let context = qwen().info().model.context.unwrap();
    let error = qwen().logits(&vec![5; context + 1]).unwrap_err();
    assert!(matches!(error, Error::PromptTooLong { .. }), "{error}");
    assert!(qwen().logits(&[5; 3]).is_ok());
}

#[test]
fn a_cause_from_below_is_one_line_and_says_which_file() {
    let empty = tempfile::TempDir::new().unwrap();
    let Err(error) = MlxBackend::load(empty.path()) else {
        panic!("an empty folder is no model")
    };
    assert!(matches!(error, Error::Model(_)), "{error:?}");
    assert!(error.to_string().contains("config.json"), "{error}");
}
