//! An answer of a model through the parsers of calls and thoughts, whole and in pieces.
//!
//! The first byte chooses the syntax, its highest bit whether the prompt ends inside of a thought; the second says
//! where the answer is cut. The rest is the answer.

use ml_backend::AnswerEvent;
use ml_backend::chat::{AnswerParser, CallSyntax, ReasoningSyntax, Syntax};
use serde_json::{Value, json};

pub(crate) fn run(data: &[u8]) {
    let [first, cut, rest @ ..] = data else {
        return;
    };
    let (syntax, opened) = (syntax(*first), *first > 127);
    let answer = String::from_utf8_lossy(rest);
    let whole = events(syntax, opened, [&*answer]);
    check(&whole);
    let every = usize::from(*cut) % 7 + 1;
    let letters: Vec<char> = answer.chars().collect();
    let pieces = letters
        .chunks(every)
        .map(|piece| piece.iter().collect::<String>());
    assert_eq!(
        events(syntax, opened, pieces),
        whole,
        "in pieces of {every}"
    );
}

/// A call in each syntax, and a thought.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let answers = [
        "<think>a</think>\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"b\"}}\n</tool_call>",
        "<tool_call>\n<function=f>\n<parameter=a>\nb\n</parameter>\n<parameter=n>\n3\n</parameter>\n</function>\n</tool_call>",
        "<|channel>thought\na<channel|><|tool_call>call:f{a:<|\"|>b<|\"|>,n:[1,{c:None}]}<tool_call|>",
        "<start_function_call>call:f{a:<escape>b<escape>}<end_function_call>",
        "```tool_code\nprint(f('b', n=3, x=(1, .5, {'c': r'\\d', 2: '''d'''})))\n```",
        "{\"name\": \"f\", \"parameters\": {\"a\": \"b\"}}; {\"type\": \"function\", \"name\": \"f\"}",
        "[THINK]a[/THINK]b[TOOL_CALLS]f[CALL_ID]x[ARGS]{\"a\": \"b\"}[TOOL_CALLS][{\"name\": \"f\", \"arguments\": \"{}\"}]",
        "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{\"a\": \"b\"}<|call|>",
        "[f(a=\"b\")]",
    ];
    let kinds = 0..=9u8;
    let seed = |kind: u8, answer: &str| [&[kind, 0], answer.as_bytes()].concat();
    kinds
        .flat_map(|kind| answers.map(|answer| seed(kind, answer)))
        .collect()
}

fn syntax(first: u8) -> Syntax {
    use CallSyntax::*;
    let mut syntax = Syntax::default();
    (syntax.calls, syntax.reasoning) = match first % 10 {
        0 => (Some(Tags), Some(ReasoningSyntax::Think)),
        1 => (Some(Xml), Some(ReasoningSyntax::Think)),
        2 => (Some(Gemma4), Some(ReasoningSyntax::Gemma4)),
        3 => (Some(FunctionGemma), None),
        4 => (Some(Python), None),
        5 => (Some(Llama), None),
        6 => (Some(Mistral), Some(ReasoningSyntax::Mistral)),
        7 => (Some(Harmony), Some(ReasoningSyntax::Harmony)),
        8 => (None, Some(ReasoningSyntax::Think)),
        _ => (None, None),
    };
    syntax
}

/// The events of an answer, neighbours of one kind made one.
fn events<T: AsRef<str>>(
    syntax: Syntax,
    opened: bool,
    pieces: impl IntoIterator<Item = T>,
) -> Vec<AnswerEvent> {
    let properties = json!({"a": {"type": "string"}, "n": {"type": ["integer", "null"]}});
    let tool = json!({"function": {"name": "f", "parameters": {"properties": properties}}});
    let mut parser = AnswerParser::new(syntax, &[tool], opened, 1);
    let mut all: Vec<AnswerEvent> = Vec::new();
    let mut add = |events: Vec<AnswerEvent>| {
        for event in events {
            match (all.last_mut(), &event) {
                (Some(AnswerEvent::Text(last)), AnswerEvent::Text(more))
                | (Some(AnswerEvent::Reasoning(last)), AnswerEvent::Reasoning(more))
                | (
                    Some(AnswerEvent::ToolCallArguments { json: last, .. }),
                    AnswerEvent::ToolCallArguments { json: more, .. },
                ) => last.push_str(more),
                _ => all.push(event),
            }
        }
    };
    for piece in pieces {
        add(parser.push(piece.as_ref()));
    }
    add(parser.finish());
    all
}

/// Calls come one after the other, each is begun once and ends once, and one that ends is an object.
fn check(events: &[AnswerEvent]) {
    let mut open: Option<(usize, String)> = None;
    let mut next = 0;
    for event in events {
        match event {
            AnswerEvent::ToolCallStart { index, name, .. } => {
                assert!(open.is_none() && *index == next && !name.is_empty());
                open = Some((*index, String::new()));
                next += 1;
            }
            AnswerEvent::ToolCallArguments { index, json } => {
                let (at, arguments) = open.as_mut().expect("a call is under way");
                assert_eq!(at, index);
                arguments.push_str(json);
            }
            AnswerEvent::ToolCallEnd { index } => {
                let (at, arguments) = open.take().expect("a call is under way");
                assert_eq!(at, *index);
                let arguments: Value = serde_json::from_str(&arguments).expect("JSON");
                assert!(arguments.is_object(), "{arguments}");
            }
            AnswerEvent::ToolCallUndone { index, text } => {
                assert_eq!(open.take().map(|(at, _)| at), Some(*index));
                assert!(!text.is_empty(), "a call that was begun by nothing");
            }
            _ => {}
        }
    }
    assert!(open.is_none(), "a call that neither ends nor is undone");
}
