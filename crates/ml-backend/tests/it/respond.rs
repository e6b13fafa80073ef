//! Answers in their parts, of a demo model whose every token is told it.

use ml_backend::{
    AnswerEvent, Backend, FinishReason, LogitsProcessor, Message, MlxBackend, Options, ToolChoice,
};
use serde_json::json;
use tempfile::TempDir;

use crate::scripted::{self, THOUGHT};

const MARKERS: [&str; 2] = ["<tool_call>", "</tool_call>"];
const CALL: &str = "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"town\": \"Bern\", \"days\": 3}}\n</tool_call>";

/// The demo model with this end of its template, and the markers of calls as special tokens.
pub(crate) fn model(prompt_end: &str) -> (TempDir, MlxBackend) {
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}<|im_end|>\n{% endfor %}{# <think> #}<|im_start|>assistant\n";
    let tokens = [MARKERS, THOUGHT].concat();
    scripted::model(&tokens, Some(&format!("{template}{prompt_end}")))
}

/// Has the model say `answer` and end.
fn saying(backend: &MlxBackend, messages: &[Message], answer: &str) -> Options {
    let options = Options::new().temperature(0.0).max_tokens(200).tool(json!({
        "type": "function",
        "function": {"name": "weather", "parameters": {"properties": {"town": {"type": "string"}}}},
    }));
    scripted(backend, messages, answer, options)
}

/// The same with these options.
pub(crate) fn scripted(
    backend: &MlxBackend,
    messages: &[Message],
    answer: &str,
    options: Options,
) -> Options {
    let mut script = backend.encode(answer).unwrap();
    script.extend(backend.encode("<|im_end|>").unwrap());
    let prompt = backend.render_chat(messages, &options).unwrap();
    let prompt = backend.encode(&prompt).unwrap().len();
    options.logits_processor(LogitsProcessor::new(move |ids, logits| {
        let id = script[(ids.len() - prompt).min(script.len() - 1)];
        logits.fill(f32::NEG_INFINITY);
        logits[id as usize] = 0.0;
        Ok(())
    }))
}

#[test]
fn an_answer_comes_in_its_parts() {
    let (_dir, backend) = model("");
    let question = [Message::user("Weather?")];
    let said = format!("<think>\nHm.\n</think>\n\nI look.\n{CALL}\n{CALL}");
    let options = saying(&backend, &question, &said);
    let answer = backend.respond(&question, &options).unwrap();
    assert_eq!(answer.text, "I look.");
    assert_eq!(answer.reasoning.as_deref(), Some("Hm."));
    assert_eq!(answer.finish_reason, FinishReason::ToolCalls);
    assert_eq!(answer.tool_calls.len(), 2);
    for call in &answer.tool_calls {
        assert_eq!(
            (call.name.as_str(), &call.arguments),
            ("weather", &json!({"town": "Bern", "days": 3}))
        );
        assert_eq!(call.id.as_ref().unwrap().len(), 9);
    }
    assert_ne!(answer.tool_calls[0].id, answer.tool_calls[1].id);
    // What a conversation goes on with.
    let message = serde_json::to_value(answer.to_message()).unwrap();
    assert_eq!(
        message["tool_calls"][1]["function"]["arguments"],
        "{\"town\":\"Bern\",\"days\":3}"
    );
    let next = [
        question[0].clone(),
        answer.to_message(),
        Message::tool(&answer.tool_calls[0], "sun"),
    ];
    assert!(
        backend
            .render_chat(&next, &options)
            .unwrap()
            .contains("<tool_call>{\"name\": \"weather\"")
    );

    // In a stream the same, and each token is in one piece.
    let mut stream = backend.stream_answer(&question, &options).unwrap();
    let (mut raw, mut ids, mut json) = (String::new(), Vec::new(), String::new());
    for piece in &mut stream {
        let piece = piece.unwrap();
        raw.push_str(&piece.raw.text);
        ids.extend(piece.raw.token_ids);
        for event in piece.events {
            if let AnswerEvent::ToolCallArguments {
                index: 1,
                json: more,
            } = event
            {
                json.push_str(&more);
            }
        }
    }
    assert_eq!(raw, said);
    assert_eq!(ids, answer.token_ids);
    assert_eq!(json, "{\"town\": \"Bern\", \"days\": 3}");
    let streamed = stream.answer();
    assert_eq!(
        (&streamed.text, &streamed.reasoning),
        (&answer.text, &answer.reasoning)
    );
    assert_eq!(streamed.finish_reason, FinishReason::ToolCalls);

    // Plain chat is the text without special tokens, as ever.
    let chat = backend.chat(&question, &options).unwrap();
    let plain = said.replace(MARKERS[0], "").replace(MARKERS[1], "");
    assert_eq!((chat.text, chat.finish_reason), (plain, FinishReason::Stop));
}

#[test]
fn a_call_that_is_cut_off_is_text() {
    let (_dir, backend) = model("");
    let question = [Message::user("Weather?")];
    let options = saying(&backend, &question, CALL);
    let whole = backend.respond(&question, &options).unwrap();
    assert_eq!((whole.text.as_str(), whole.tool_calls.len()), ("", 1));
    let tokens = whole.token_ids.len();
    let cut = backend
        .respond(&question, &options.clone().max_tokens(tokens / 2))
        .unwrap();
    assert_eq!(cut.finish_reason, FinishReason::Length);
    assert!(
        cut.tool_calls.is_empty() && cut.text.len() > 10,
        "{}",
        cut.text
    );
    assert!(CALL.starts_with(&cut.text), "{}", cut.text);
    // Without tools what looks like a call is text.
    let none = saying(&backend, &question, CALL).tool_choice(ToolChoice::None);
    let none = backend.respond(&question, &none).unwrap();
    assert_eq!(
        (none.text.replace('\n', ""), none.tool_calls.len()),
        (CALL.replace('\n', ""), 0)
    );
    assert_eq!(none.finish_reason, FinishReason::Stop);
}

#[test]
fn a_prompt_may_open_the_thought_and_a_budget_ends_it() {
    let (_dir, backend) = model("<think>\n");
    let question = [Message::user("What is 17 + 25?")];
    let told = saying(&backend, &question, "Hm.\n</think>\n\n42");
    let answer = backend.respond(&question, &told).unwrap();
    assert_eq!(
        (answer.reasoning.as_deref(), answer.text.as_str()),
        (Some("Hm."), "42")
    );

    let free = Options::new()
        .temperature(0.0)
        .max_tokens(40)
        .ignore_eos(true);
    let unbound = backend.chat(&question, &free).unwrap();
    assert!(!unbound.text.contains("</think>"), "{}", unbound.text);
    for budget in [0, 3] {
        let bound = free.clone().reasoning_budget(budget);
        let chat = backend.chat(&question, &bound).unwrap();
        let (thought, rest) = chat
            .text
            .split_once("\n</think>\n\n")
            .expect("it was ended");
        let closing = backend.encode("\n</think>\n\n").unwrap();
        assert_eq!(chat.token_ids[budget..][..closing.len()], closing);
        // As far as it may, it thinks what it would have thought.
        assert_eq!(chat.token_ids[..budget], unbound.token_ids[..budget]);
        let answer = backend.respond(&question, &bound).unwrap();
        assert_eq!(answer.reasoning.unwrap_or_default(), thought.trim());
        assert_eq!(answer.text.trim(), rest.trim());
    }
}
