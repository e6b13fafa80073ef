//! However an answer is cut, the events are the same, and what went in comes out.

use ml_backend::AnswerEvent;
use ml_backend::chat::{CallSyntax, ReasoningSyntax, Syntax};

use super::{events, found, syntax};

/// Words of all syntaxes, and of what stands between.
const WORDS: [&str; 78] = [
    "<tool_call>",
    "</tool_call>",
    "<function=",
    "weather",
    ">",
    "</function>",
    "<parameter=",
    "town",
    "</parameter>",
    "<|tool_call>",
    "<tool_call|>",
    "call:",
    "now",
    "{",
    "}",
    "<|\"|>",
    ":",
    ",",
    "[",
    "]",
    "(",
    ")",
    "=",
    "'",
    "\"",
    "'''",
    "\\",
    "\\n",
    "\\u00e9",
    "\n",
    " ",
    "é🦀",
    "```tool_code\n",
    "```",
    "<|python_tag|>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[CALL_ID]",
    "<|channel|>",
    "<|message|>",
    "<|end|>",
    "<|start|>",
    "<|call|>",
    "<|return|>",
    "analysis",
    "commentary",
    "final",
    " to=functions.",
    "<think>",
    "</think>",
    "<|channel>thought",
    "<channel|>",
    "[THINK]",
    "[/THINK]",
    "\"name\"",
    "\"arguments\"",
    "\"parameters\"",
    "{\"name\": \"now\", \"arguments\": {}}",
    "{\"name\": \"weather\", \"parameters\": {\"town\": \"",
    "[weather(town=",
    "now()",
    "print(",
    "weather{town:<|\"|>",
    "<tool_call>\n<function=weather>\n<parameter=town>\n",
    "\n</parameter>\n</function>\n</tool_call>",
    "[TOOL_CALLS]weather[ARGS]{\"town\": ",
    "commentary to=functions.weather <|constrain|>json<|message|>{\"days\": ",
    "1",
    "-2.5e3",
    "true",
    "None",
    "null",
    ";",
    "<",
    "|",
    "The answer is",
    "\"}",
    "}}",
];

/// A call in each syntax.
const CALLS: [&str; 9] = [
    "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"days\": 3}}\n</tool_call>",
    "<tool_call>\n<function=weather>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>",
    "<|tool_call>call:weather{town:<|\"|>a<|\"|>,days:3}<tool_call|>",
    "<start_function_call>call:weather{town:<escape>a<escape>}<end_function_call>",
    "```tool_code\nweather(town='a', days=3)\n```",
    "<|python_tag|>{\"name\": \"weather\", \"parameters\": {\"days\": 3}}",
    "[TOOL_CALLS]weather[ARGS]{\"days\": 3}",
    "[TOOL_CALLS][{\"name\": \"weather\", \"arguments\": {}}, {\"name\": \"now\"}]",
    "<|start|>assistant<|channel|>commentary to=functions.weather<|message|>{\"days\": 3}<|call|>",
];

/// An answer of words, and now and then a call.
fn answer_of(random: &mut Random) -> String {
    let word = |random: &mut Random| match random.below(6) {
        0 => CALLS[random.below(CALLS.len())],
        _ => WORDS[random.below(WORDS.len())],
    };
    (0..1 + random.below(14)).map(|_| word(random)).collect()
}

fn syntaxes() -> Vec<Syntax> {
    use CallSyntax::*;
    let mut all: Vec<Syntax> = [Tags, Xml, Gemma4, FunctionGemma, Python, Llama, Mistral]
        .into_iter()
        .map(|calls| syntax(calls, ReasoningSyntax::Think))
        .collect();
    all.push(syntax(Gemma4, ReasoningSyntax::Gemma4));
    all.push(syntax(Mistral, ReasoningSyntax::Mistral));
    all.push(syntax(Harmony, ReasoningSyntax::Harmony));
    all.push(syntax(None, ReasoningSyntax::Think));
    all.push(Syntax::default());
    all
}

/// Random numbers, the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// Letters and digits of an answer that stand in no marker, sorted: what must not be lost.
fn letters(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

#[test]
fn an_answer_may_be_cut_anywhere() {
    let mut random = Random(1);
    let mut whole_calls = 0;
    for round in 0..6_000 {
        let syntaxes = syntaxes();
        let syntax = syntaxes[round % syntaxes.len()];
        let opened = random.below(4) == 0;
        let answer = answer_of(&mut random);
        let whole = events(syntax, opened, [answer.as_str()]);
        let of_whole = found(&whole);
        whole_calls += of_whole.calls.len();

        let mut single = Vec::new();
        let mut pieces = Vec::new();
        let (mut from, mut buffer) = (0, [0; 4]);
        for (at, c) in answer.char_indices() {
            single.push(c.encode_utf8(&mut buffer).to_owned());
            if random.below(5) == 0 {
                pieces.push(&answer[from..at]);
                from = at;
            }
        }
        pieces.push(&answer[from..]);
        assert_eq!(
            events(syntax, opened, pieces),
            whole,
            "{syntax:?} {answer:?}"
        );
        assert_eq!(
            events(syntax, opened, single.iter().map(String::as_str)),
            whole,
            "{syntax:?} {answer:?}"
        );

        // Where there is neither a call nor a thought, the answer is the text.
        let only_text = whole
            .iter()
            .all(|event| matches!(event, AnswerEvent::Text(_)));
        if only_text
            && syntax.reasoning != Some(ReasoningSyntax::Harmony)
            && !answer.contains("<think>")
            && !opened
        {
            let markers = ["[THINK]", "[/THINK]", "<|channel>thought", "<channel|>"];
            if !markers.iter().any(|marker| answer.contains(marker)) {
                assert_eq!(of_whole.text, answer, "{syntax:?}");
            }
        }
        // What is given back is where it was.
        for event in &whole {
            if let AnswerEvent::ToolCallUndone { text, .. } = event {
                assert!(
                    letters(&answer).contains(&letters(text)),
                    "{text:?} of {answer:?}"
                );
            }
        }
    }
    assert!(whole_calls > 100, "{whole_calls}: the words make no calls");
}

/// The texts of an answer in which calls and thoughts were put come out in their order, whatever is broken.
#[test]
fn what_is_between_is_not_lost() {
    let mut random = Random(2);
    let calls = [
        (
            CallSyntax::Tags,
            "<tool_call>{\"name\": \"now\", \"arguments\": {\"a\": \"b\"}}</tool_call>",
        ),
        (
            CallSyntax::Xml,
            "<tool_call>\n<function=now>\n<parameter=a>\nb\n</parameter>\n</function>\n</tool_call>",
        ),
        (
            CallSyntax::Gemma4,
            "<|tool_call>call:now{a:<|\"|>b<|\"|>}<tool_call|>",
        ),
        (CallSyntax::Python, "```tool_code\nnow(a='b')\n```"),
        (CallSyntax::Mistral, "[TOOL_CALLS]now[ARGS]{\"a\": \"b\"}"),
    ];
    for round in 0..2_000 {
        let (calls, call) = calls[round % calls.len()];
        let (mut answer, mut expected, mut count) = (String::new(), String::new(), 0);
        for part in 0..1 + random.below(5) {
            let text = format!(" text{part} ");
            answer.push_str(&text);
            expected.push_str(&text);
            let cut = match random.below(3) {
                0 => call.len(),
                1 => call.len().saturating_sub(1 + random.below(call.len() - 1)),
                _ => 0,
            };
            answer.push_str(&call[..cut]);
            match cut == call.len() {
                true => count += 1,
                false => expected.push_str(&call[..cut]),
            }
        }
        let ours = found(&events(syntax(calls, None), false, [answer.as_str()]));
        // A cut call may be whole but for its closing marker, or hold what follows as a part of its text.
        let within = expected.len() - ours.text.len().min(expected.len());
        if ours.calls.len() == count && ours.undone == 0 && within == 0 {
            assert_eq!(letters(&ours.text), letters(&expected), "{answer:?}");
        }
        let all: String = ours.text
            + &ours
                .calls
                .iter()
                .map(|(name, arguments)| format!("{name}{arguments}"))
                .collect::<String>();
        for part in expected
            .split_whitespace()
            .filter(|part| part.starts_with("text"))
        {
            let part: String = part
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric())
                .collect();
            assert!(
                all.contains(&part),
                "{part} of {answer:?} is not in {all:?}"
            );
        }
    }
}
