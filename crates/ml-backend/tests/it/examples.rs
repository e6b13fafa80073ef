//! The examples do on the demo model what they say.

use std::path::Path;

use ml_backend::Options;

use crate::scripted;

#[path = "../../examples/async_stream.rs"]
#[allow(dead_code, reason = "its main is a program's")]
mod async_stream;
#[path = "../../examples/chat.rs"]
#[allow(dead_code, reason = "its main is a program's")]
mod chat;
#[path = "../../examples/embeddings.rs"]
#[allow(dead_code, reason = "its main is a program's")]
mod embeddings;
#[path = "../../examples/extract/main.rs"]
#[allow(dead_code, reason = "its main is a program's")]
mod extract;
#[path = "../../examples/logits_processor.rs"]
#[allow(dead_code, reason = "its main is a program's")]
mod logits_processor;
#[path = "../../examples/tool_loop/main.rs"]
#[allow(dead_code, reason = "its main is a program's")]
mod tool_loop;

const DEMO: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../assets/models/qwen3-demo"
);

fn text(output: Vec<u8>) -> String {
    String::from_utf8(output).unwrap()
}

#[test]
fn a_chat_goes_on_the_next_time() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("chat.jsonl");
    let chat = |lines: &str| {
        let mut output = Vec::new();
        chat::run(Path::new(DEMO), &file, lines.as_bytes(), &mut output).unwrap();
        text(output)
    };
    assert_eq!(chat("What is 17 + 25?\n"), "42\n");
    assert_eq!(chat(""), "user: What is 17 + 25?\nassistant: 42\n");
}

#[test]
fn two_answers_come_in_one_task() {
    let mut output = Vec::new();
    let questions = ["What is 17 + 25?", "Spell the word garden."];
    let questions = questions.into_iter().map(str::to_owned);
    async_stream::run(DEMO, questions, &mut output).unwrap();
    let output = text(output);
    let of = |answer: &str| {
        let pieces = output.lines().filter_map(|line| line.strip_prefix(answer));
        pieces
            .map(|piece| serde_json::from_str::<String>(piece).unwrap())
            .collect::<String>()
    };
    assert_eq!(
        (of("0: ").as_str(), of("1: ").as_str()),
        ("42", "g-a-r-d-e-n")
    );
}

#[test]
fn a_rust_type_is_read_out_of_a_text() {
    let mut output = Vec::new();
    extract::run(DEMO, "Three pears for tomorrow, please.", &mut output).unwrap();
    assert!(text(output).contains(" of "));
}

#[test]
fn a_processor_leaves_a_letter_out() {
    let mut output = Vec::new();
    let question = "Spell the word garden.";
    logits_processor::run(Path::new(DEMO), 'r', question, &mut output).unwrap();
    let output = text(output);
    assert!(output.len() > 1 && !output.contains('r'), "{output}");
}

#[test]
fn texts_are_ranked_by_their_embeddings() {
    let mut output = Vec::new();
    let texts = ["What is 17 + 25?", "What is 17 + 26?", "Trees grow here."];
    embeddings::run(DEMO, &texts, &mut output).unwrap();
    let output = text(output);
    let ranked: Vec<&str> = output
        .lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(_, text)| text)
        .collect();
    assert_eq!(ranked, [texts[1], texts[2]]);
}

#[test]
fn tools_are_called_until_there_is_an_answer() {
    let (_dir, backend) = scripted::model(&["<tool_call>", "</tool_call>"], Some(TOOLS));
    let call = |a: u32, operation: &str| {
        format!(
            "<tool_call>\n{{\"name\": \"calculate\", \"arguments\": {{\"a\": {a}, \"operation\": \"{operation}\", \"b\": 3}}}}\n</tool_call>"
        )
    };
    let two = call(14, "*") + "\n" + &call(5, "?");
    let answers = [two.as_str(), "It is 42."];
    let options = Options::new().temperature(0.0).max_tokens(300);
    let options = scripted::saying(&backend, options, "<|im_start|>assistant", &answers);
    let mut output = Vec::new();
    tool_loop::run(&backend, options, "What is 14 * 3?", &mut output).unwrap();
    let output = text(output);
    let [first, second, answer] = output.lines().collect::<Vec<_>>()[..] else {
        panic!("{output}")
    };
    assert!(first.starts_with("[calculate {\"a\": 14"), "{output}");
    assert!(second.contains("\"?\""), "{output}");
    assert_eq!(answer, "It is 42.");
}

/// A template that knows tools, and shows their results to the model.
pub(crate) const TOOLS: &str = "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n";
