//! Answers that have a form, on an engine: beside others, with reasoning before them, cut off.

use std::path::{Path, PathBuf};

use ml_backend::{
    Backend, CancelToken, Error, FinishReason, LogitsProcessor, Message, MlxBackend, Options,
    Structure,
};
use serde_json::{Value, json};

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/models/qwen3-demo")
}

fn load(random: bool) -> MlxBackend {
    let builder = MlxBackend::builder().device(crate::common::device());
    builder.random_weights(random).load(demo()).unwrap()
}

/// Forms of several lengths, and free text among them.
fn forms() -> Vec<Option<Value>> {
    let text = json!({ "type": "string", "minLength": 3, "maxLength": 14 });
    let schemas = [
        json!({ "type": "integer", "minimum": -20, "maximum": 4000 }),
        json!({ "type": "array", "items": text, "minItems": 2, "maxItems": 4 }),
        json!({
            "type": "object", "required": ["id", "on"], "additionalProperties": false,
            "properties": { "id": text, "on": { "type": "boolean" }, "at": { "type": "string", "format": "date" } },
        }),
        json!({ "enum": ["a", "north", { "deep": [1, 2, 3] }, null] }),
        json!({ "anyOf": [{ "type": "null" }, { "type": "array", "maxItems": 3, "items": { "type": "number" } }] }),
    ];
    let forms = schemas.into_iter().map(Some).chain([None]);
    let forms: Vec<_> = forms.collect();
    forms.iter().cloned().cycle().take(16).collect()
}

fn options(form: Option<&Value>, seed: u64) -> Options {
    let mut options = Options::new().temperature(1.0).max_tokens(200).seed(seed);
    options.structure = form.cloned().map(Structure::JsonSchema);
    options
}

fn validator(schema: &Value) -> jsonschema::Validator {
    let options = jsonschema::options().should_validate_formats(true);
    options.build(schema).unwrap()
}

#[test]
fn random_weights_answer_in_the_form_alone_and_beside_fifteen_others() {
    let backend = load(true);
    let forms = forms();
    let prompt = |i: usize| vec![40 + i as u32; 3 + i % 5];
    let alone = forms.iter().enumerate().map(|(i, form)| {
        let options = options(form.as_ref(), i as u64);
        backend.generate_ids(&prompt(i), &options).unwrap()
    });
    let alone: Vec<_> = alone.collect();
    let streams = forms.iter().enumerate().map(|(i, form)| {
        let options = options(form.as_ref(), i as u64);
        backend.stream_ids(&prompt(i), &options).unwrap()
    });
    let streams: Vec<_> = streams.collect();
    let mut held = 0;
    for ((form, alone), mut stream) in forms.iter().zip(alone).zip(streams) {
        for piece in stream.by_ref() {
            piece.unwrap();
        }
        let together = stream.generation().unwrap();
        assert_eq!(together.token_ids, alone.token_ids);
        assert_eq!(together.finish_reason, alone.finish_reason);
        let Some(schema) = form else { continue };
        assert_eq!(alone.finish_reason, FinishReason::Stop, "{}", alone.text);
        let value = serde_json::from_str(&alone.text).unwrap();
        assert!(
            validator(schema).is_valid(&value),
            "{schema} {}",
            alone.text
        );
        held += 1;
    }
    assert!(held >= 12);
}

#[test]
fn the_demo_model_answers_in_the_form() {
    let backend = load(false);
    let question = [Message::user("What is 17 + 25?")];
    let greedy = || Options::new().temperature(0.0);
    let digits = greedy().structure(Structure::Regex(r"\d{1,3}".to_owned()));
    let answer = backend.chat(&question, &digits).unwrap();
    assert_eq!(answer.text, "42");
    assert_eq!(answer.finish_reason, FinishReason::Stop);
    // It would say 42 by itself, and may not.
    let texts = ["forty", "fifty"].map(str::to_owned).to_vec();
    let words = greedy().structure(Structure::OneOf(texts.clone()));
    let answer = backend.chat(&question, &words).unwrap();
    assert!(texts.contains(&answer.text), "{}", answer.text);
    assert_eq!(answer.finish_reason, FinishReason::Stop);
}

#[test]
fn what_is_cut_off_is_the_beginning_of_the_form() {
    let backend = load(true);
    let schema =
        json!({ "type": "array", "minItems": 90, "maxItems": 99, "items": { "const": "abc" } });
    let base = || options(Some(&schema), 5);
    let ask = |options: &Options| backend.generate_ids(&[50, 60], options);
    let long = ask(&base().max_tokens(24)).unwrap();
    assert_eq!(long.finish_reason, FinishReason::Length);
    let letters: String = long.text.chars().filter(|c| !c.is_whitespace()).collect();
    let whole = format!("[{}", "\"abc\",".repeat(90));
    assert!(whole.starts_with(&letters), "{}", long.text);
    let stopped = ask(&base().stop("c\"")).unwrap();
    assert_eq!(stopped.finish_reason, FinishReason::StopText);
    assert!(
        stopped
            .text
            .trim_start_matches(|c| c != '"')
            .starts_with("\"ab")
    );
    let cancel = CancelToken::new();
    let mut stream = backend
        .stream_ids(&[50, 60], &base().cancel(cancel.clone()))
        .unwrap();
    let first = stream.next().unwrap().unwrap();
    assert!(first.text.starts_with('['));
    cancel.cancel();
    let error = stream.find_map(Result::err).unwrap();
    assert!(matches!(error, Error::Cancelled { .. }), "{error}");
}

#[test]
fn reasoning_is_free_and_what_follows_it_has_the_form() {
    let backend = load(true);
    let schema = json!({ "type": "object", "required": ["n"], "additionalProperties": false,
        "properties": { "n": { "type": "integer", "minimum": 0, "maximum": 99 } } });
    let prompt = [50, 60, 70];
    for (said, after) in [
        ("a{b</think>", "</think>"),
        ("so </think>\n\n", "</think>"),
        ("x. Answer:\n", "Answer:"),
    ] {
        // A model that ends its reasoning with this.
        let script = backend.encode(said).unwrap();
        let says = LogitsProcessor::new(move |ids, logits| {
            if let Some(&id) = script.get(ids.len() - prompt.len()) {
                logits.fill(f32::NEG_INFINITY);
                logits[id as usize] = 0.0;
            }
            Ok(())
        });
        let options = options(Some(&schema), 3)
            .structure_after(after)
            .logits_processor(says);
        let answer = backend.generate_ids(&prompt, &options).unwrap();
        assert_eq!(answer.finish_reason, FinishReason::Stop, "{}", answer.text);
        let rest = answer.text.strip_prefix(said).unwrap();
        let breaks = rest.len() - rest.trim_start_matches('\n').len();
        assert!(breaks <= 2, "{}", answer.text);
        let value = serde_json::from_str(rest).unwrap();
        assert!(validator(&schema).is_valid(&value), "{}", answer.text);
    }
    // A prompt that ends the reasoning itself: the form holds at once.
    let options = options(Some(&schema), 3).structure_after("</think>");
    let answer = backend.generate("It is so.</think>\n\n", &options).unwrap();
    assert!(answer.text.starts_with('{'), "{}", answer.text);
}

#[test]
fn what_cannot_be_held_to_is_refused_before_anything_runs() {
    let backend = load(true);
    let schema = json!({ "type": "array", "uniqueItems": true });
    let error = backend
        .stream_ids(&[1, 2], &options(Some(&schema), 0))
        .err()
        .unwrap();
    assert!(matches!(error, Error::Structure { .. }), "{error}");
    assert!(
        error.to_string().contains("`uniqueItems` (at #)"),
        "{error}"
    );
    let both = options(Some(&json!({})), 0).ignore_eos(true);
    let error = backend.stream_ids(&[1, 2], &both).err().unwrap();
    assert!(error.to_string().contains("ignore_eos"), "{error}");
}
