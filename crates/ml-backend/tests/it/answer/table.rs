//! What each syntax makes of an answer: whole calls, several, text between, and what is none.

use ml_backend::chat::CallSyntax::{self, *};
use ml_backend::chat::ReasoningSyntax;
use serde_json::{Value, json};

use super::{Found, events, found, parse, syntax};

/// An answer that holds calls, and the text that is left.
type Whole<'a> = (&'a str, &'a [(&'a str, Value)], &'a str);

fn holds(calls: CallSyntax, cases: &[Whole<'_>]) {
    for (answer, expected, text) in cases {
        let Found {
            text: ours,
            calls,
            undone,
            ..
        } = parse(syntax(calls, None), answer);
        let expected: Vec<(String, Value)> = expected
            .iter()
            .map(|(name, arguments)| ((*name).to_owned(), arguments.clone()))
            .collect();
        assert_eq!(calls, expected, "{answer}");
        assert_eq!(ours, *text, "{answer}");
        assert_eq!(undone, 0, "{answer}");
    }
}

/// Answers without a whole call are their own text.
fn is_text(calls: CallSyntax, answers: &[&str]) {
    for answer in answers {
        let Found { text, calls, .. } = parse(syntax(calls, ReasoningSyntax::Think), answer);
        assert_eq!(calls, [], "{answer}");
        assert_eq!(text, *answer);
    }
}

fn weather(arguments: Value) -> (&'static str, Value) {
    ("weather", arguments)
}

fn now() -> (&'static str, Value) {
    ("now", json!({}))
}

#[test]
fn json_in_tags() {
    let bern = weather(json!({"town": "Bern", "days": 3}));
    holds(
        Tags,
        &[
            (
                "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"town\": \"Bern\", \"days\": 3}}\n</tool_call>",
                std::slice::from_ref(&bern),
                "",
            ),
            (
                "Let me see.\n\n<tool_call>{\"arguments\":{\"town\":\"Bern\",\"days\":3},\"name\":\"weather\"}</tool_call>",
                std::slice::from_ref(&bern),
                "Let me see.",
            ),
            (
                "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n{\"name\": \"weather\", \"parameters\": {\"town\": \"Bern\", \"days\": 3}}\n</tool_call>\n",
                &[now(), bern.clone()],
                "",
            ),
            (
                "A <tool_call>{\"name\":\"now\"}</tool_call> B",
                &[now()],
                "A  B",
            ),
            // As chat APIs write it, and with its arguments as a text.
            (
                r#"<tool_call>{"id": "model-s", "type": "function", "function": {"name": "weather", "arguments": "{\"town\": \"Bern\", \"days\": 3}"}}</tool_call>"#,
                std::slice::from_ref(&bern),
                "",
            ),
            // Two in one pair of tags, a list, and a closing tag that was forgotten.
            (
                r#"<tool_call>{"name":"now","arguments":{}}{"name":"now","arguments":null}</tool_call>"#,
                &[now(), now()],
                "",
            ),
            (
                r#"<tool_call>[{"name":"now"}, {"name":"now"}]</tool_call>"#,
                &[now(), now()],
                "",
            ),
            (
                r#"<tool_call>{"name":"now"}<tool_call>{"name":"now"}"#,
                &[now(), now()],
                "",
            ),
            (
                r#"<tool_call>{"name":"now"}</tool_c and more"#,
                &[now()],
                "</tool_c and more",
            ),
            // A line break inside of a text.
            (
                "<tool_call>{\"name\":\"weather\",\"arguments\":{\"town\":\"a\nb\\n\\u00fc\"}}</tool_call>",
                &[weather(json!({"town": "a\nb\nü"}))],
                "",
            ),
        ],
    );
    is_text(
        Tags,
        &[
            "<tool_call>",
            "<tool_call>\nnothing\n</tool_call>",
            "<tool_call>{}</tool_call>",
            r#"<tool_call>{"name": "weather", "arguments": {"town": "Be"#,
            r#"<tool_call>{"name": "weather", "arguments": [1]}</tool_call>"#,
            r#"<tool_call>{"name": "weather", "arguments": {"town": tru}}</tool_call>"#,
            r#"<tool_call>{"name": "weather", "arguments": {"town": 1e999}}</tool_call>"#,
            r#"<tool_call>{"name": "weather", "arguments": {"town": "\ud800"}}</tool_call>"#,
            r#"<tool_call>{"name": "two words", "arguments": {}}</tool_call>"#,
            r#"<tool_call>{"arguments": {}}</tool_call>"#,
            "1 < 2 and <tool_cal> and <tool",
            "{\"name\": \"now\"}",
        ],
    );
    // What is broken gives back no more than itself.
    let broken = parse(
        syntax(Tags, None),
        r#"<tool_call>{"name": "now", <tool_call>{"name": "now"}</tool_call>"#,
    );
    assert_eq!((broken.calls.len(), broken.undone), (1, 1));
    assert_eq!(broken.text, r#"<tool_call>{"name": "now", "#);
}

#[test]
fn xml_parameters() {
    let call = "<tool_call>\n<function=weather>\n<parameter=town>\nBern\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>";
    let bern = weather(json!({"town": "Bern", "days": 3}));
    holds(
        Xml,
        &[
            (call, std::slice::from_ref(&bern), ""),
            (
                &format!("I look.\n{call}\n{call}"),
                &[bern.clone(), bern.clone()],
                "I look.",
            ),
            (
                call.strip_prefix("<tool_call>\n").unwrap(),
                std::slice::from_ref(&bern),
                "",
            ),
            (
                call.strip_suffix("\n</tool_call>").unwrap(),
                std::slice::from_ref(&bern),
                "",
            ),
            (
                "<tool_call><function=now></function></tool_call>",
                &[now()],
                "",
            ),
            (
                "<tool_call><function=now></function><function=now></function></tool_call>",
                &[now(), now()],
                "",
            ),
            // Types, as Python and as JSON write them.
            (
                "<tool_call>\n<function=weather>\n<parameter=exact>\nTrue\n</parameter>\n<parameter=unit>\nNone\n</parameter>\n<parameter=limit>\n-2.5e3\n</parameter>\n<parameter=where>\n{\"z\": [1, null], \"a\": \"\\n\"}\n</parameter>\n<parameter=hours>\n[1, 2]\n</parameter>\n</function>\n</tool_call>",
                &[weather(
                    json!({"exact": true, "unit": null, "limit": -2500.0, "where": {"z": [1, null], "a": "\n"}, "hours": [1, 2]}),
                )],
                "",
            ),
            // A text stays one, whatever it looks like, with its own line breaks and markers.
            (
                "<tool_call>\n<function=weather>\n<parameter=town>\n\n 12 \\n \"</param\n</parameters>\n\n</parameter>\n<parameter=unit>\nmm\n</parameter>\n</function>\n</tool_call>",
                &[weather(
                    json!({"town": "\n 12 \\n \"</param\n</parameters>\n", "unit": "mm"}),
                )],
                "",
            ),
            // What does not fit its type, and a parameter that nobody knows, are texts; a structure is one.
            (
                "<tool_call><function=weather><parameter=days>soon</parameter><parameter=other>7</parameter><parameter=more>[7]</parameter></function></tool_call>",
                &[weather(json!({"days": "soon", "other": "7", "more": [7]}))],
                "",
            ),
        ],
    );
    is_text(
        Xml,
        &[
            "<tool_call>\n{\"name\": \"now\"}\n</tool_call>",
            "<tool_call>\n<function=weather>\n<parameter=town>\nBe",
            "<tool_call>\n<function=weather>\n<parameter=town>\nBern\n</parameter>\n",
            "<tool_call><function=weather>text</function></tool_call>",
            "<function=>",
            "<function=a b></function>",
            "a <function and <parameter=x>",
        ],
    );
}

#[test]
fn gemma_4() {
    holds(
        Gemma4,
        &[
            (
                "<|tool_call>call:weather{town:<|\"|>Bern<|\"|>,days:3}<tool_call|>",
                &[weather(json!({"town": "Bern", "days": 3}))],
                "",
            ),
            (
                "<|tool_call>call:now{}<tool_call|><|tool_call>call:now{}<tool_call|>",
                &[now(), now()],
                "",
            ),
            (
                "I look. <|tool_call>call:now{}<tool_call|>",
                &[now()],
                "I look.",
            ),
            (
                "<|tool_call>call:weather{exact:true,hours:[1,-2.5,<|\"|>a}<|\"|>],unit:None,where:{a:{},b:[],\"c\":\"d\\n\"}}<tool_call|>",
                &[weather(
                    json!({"exact": true, "hours": [1, -2.5, "a}"], "unit": null, "where": {"a": {}, "b": [], "c": "d\n"}}),
                )],
                "",
            ),
            (
                "<|tool_call>call:weather{town:<|\"|>a \"b\" \\n <| , } \n<|\"|>,unit:two words}<tool_call|>",
                &[weather(
                    json!({"town": "a \"b\" \\n <| , } \n", "unit": "two words"}),
                )],
                "",
            ),
            ("<|tool_call>call:now{}", &[now()], ""),
        ],
    );
    is_text(
        Gemma4,
        &[
            "<|tool_call>",
            "<|tool_call>now{}<tool_call|>",
            "<|tool_call>call:weather{town:<|\"|>Bern",
            "<|tool_call>call:weather{town:<|\"|>Bern<|\"|>",
            "<|tool_call>call:weather{town}<tool_call|>",
            "<|tool_call>call:weather{town:,}<tool_call|>",
            "<|tool_call>call:weather[1]<tool_call|>",
        ],
    );
    holds(
        FunctionGemma,
        &[(
            "<start_function_call>call:weather{town:<escape>Bern<escape>,days:3}<end_function_call><start_function_call>call:now{}<end_function_call>",
            &[weather(json!({"town": "Bern", "days": 3})), now()],
            "",
        )],
    );
}

#[test]
fn python_calls() {
    holds(
        Python,
        &[
            (
                r#"[weather(town="Bern", days=3), now()]"#,
                &[weather(json!({"town": "Bern", "days": 3})), now()],
                "",
            ),
            (
                "```tool_code\nweather(town='Bern')\n```",
                &[weather(json!({"town": "Bern"}))],
                "",
            ),
            (
                "I look.\n```tool_code\nprint(weather('Bern', 3, exact=False))\nnow()\n```",
                &[
                    weather(json!({"town": "Bern", "days": 3, "exact": false})),
                    now(),
                ],
                "I look.",
            ),
            (
                "<|tool_call_start|>[other.name(a = None, )]<|tool_call_end|>Done.",
                &[("other.name", json!({"a": null}))],
                "Done.",
            ),
            (
                r#"[weather(where={'a': (1, .5, 1_000), "b": [True, ], 3: r'\d'}, hours=[], town='it\'s \x41\u00fc\n"' , unit='''a'b''c
d''')]"#,
                &[weather(
                    json!({"where": {"a": [1, 0.5, 1000], "b": [true], "3": "\\d"}, "hours": [], "town": "it's Aü\n\"", "unit": "a'b''c\nd"}),
                )],
                "",
            ),
            (
                "[weather(town='', unit=\"\", days=-3)]",
                &[weather(json!({"town": "", "unit": "", "days": -3}))],
                "",
            ),
            (
                "```tool_code\n[now(), now()]\n```\nThen.",
                &[now(), now()],
                "Then.",
            ),
        ],
    );
    is_text(
        Python,
        &[
            "[1, 2]",
            "[]",
            "[link](https://example.org)",
            "[unknown(a=1)]",
            "[weather(town=\"Be",
            "[weather(a=1, 2, 3, 4, 5, 6, 7, 8, 9)]",
            "[weather(town=f(x))]",
            "[weather(town=name)]",
            "[weather(town='a\\ud800')]",
            "```tool_code\n1 + 2\n```",
            "```tool_code\n```",
            "```python\nnow()\n```",
            "see [now()]",
        ],
    );
}

#[test]
fn llama_json() {
    let bern = weather(json!({"town": "Bern", "days": 3}));
    holds(
        Llama,
        &[
            (
                r#"{"name": "weather", "parameters": {"town": "Bern", "days": 3}}"#,
                std::slice::from_ref(&bern),
                "",
            ),
            (
                r#"<|python_tag|>{"type": "function", "name": "weather", "parameters": {"town": "Bern", "days": 3}}"#,
                std::slice::from_ref(&bern),
                "",
            ),
            (
                r#"{"name": "now", "parameters": {}}; {"name": "weather", "parameters": {"town": "Bern", "days": 3}}"#,
                &[now(), bern.clone()],
                "",
            ),
            (
                "{\"name\": \"now\"}\n{\"name\": \"now\"}",
                &[now(), now()],
                "",
            ),
            (
                r#"{"name": "now", "parameters": {}} Done."#,
                &[now()],
                "Done.",
            ),
        ],
    );
    is_text(
        Llama,
        &[
            r#"{"name": "unknown", "parameters": {}}"#,
            r#"{"town": "Bern"}"#,
            r#"{"name": "weather", "parameters": {"town": "Bern""#,
            r#"{"name": "Ada", "age": 36}"#,
            r#"Here: {"name": "now", "parameters": {}}"#,
            "{",
            "<|python_tag|>print(1)",
        ],
    );
}

#[test]
fn mistral_calls() {
    let bern = weather(json!({"town": "Bern", "days": 3}));
    holds(
        Mistral,
        &[
            (
                r#"[TOOL_CALLS][{"name": "weather", "arguments": {"town": "Bern", "days": 3}}, {"name": "now", "arguments": {}, "id": "abc123def"}]"#,
                &[bern.clone(), now()],
                "",
            ),
            (
                r#"[TOOL_CALLS] [{"name": "now", "arguments": {}}]"#,
                &[now()],
                "",
            ),
            (
                r#"I look.[TOOL_CALLS]weather[ARGS]{"town": "Bern", "days": 3}[TOOL_CALLS]now[CALL_ID]model-s[ARGS]{}"#,
                &[bern.clone(), now()],
                "I look.",
            ),
        ],
    );
    is_text(
        Mistral,
        &[
            "[TOOL_CALLS]",
            "[TOOL_CALLS]weather",
            r#"[TOOL_CALLS]weather[ARGS]{"town": "Be"#,
            r#"[TOOL_CALLS]weather[ARGS]"Bern""#,
            "[TOOL_CALLS]two words[ARGS]{}",
            r#"[TOOL_CALLS][{"name": "now", "arguments": {}"#,
        ],
    );
}

#[test]
fn harmony_channels() {
    let harmony = syntax(Harmony, ReasoningSyntax::Harmony);
    let thought = "<|channel|>analysis<|message|>Hm. <|end|>";
    type Case<'a> = (String, Vec<(&'a str, Value)>, &'a str, &'a str);
    let cases: [Case<'_>; 9] = [
        (format!("{thought}<|start|>assistant<|channel|>final<|message|>Yes.<|return|>"), vec![], "Hm.", "Yes."),
        (
            format!("{thought}<|start|>assistant<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{{\"town\": \"Bern\"}}<|call|>"),
            vec![weather(json!({"town": "Bern"}))],
            "Hm.",
            "",
        ),
        // The recipient before the channel, as the template writes it; a word before the call; no end.
        (
            "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant to=functions.now<|channel|>commentary json<|message|>{}".to_owned(),
            vec![now()],
            "",
            "I look.",
        ),
        (" to=functions.now<|channel|>commentary json<|message|>{} <|call|>".to_owned(), vec![now()], "", ""),
        (format!("{thought}<|start|>assistant<|channel|>analysis<|message|>More.<|end|>"), vec![], "Hm.\nMore.", ""),
        // No header at all, one that was cut off, and a call that was.
        ("Just text, <|no".to_owned(), vec![], "", "Just text, <|no"),
        (format!("{thought}<|start|>assistant<|chan"), vec![], "Hm.", ""),
        (
            "<|channel|>commentary to=functions.weather<|message|>{\"town\": \"Be".to_owned(),
            vec![],
            "",
            "<|channel|>commentary to=functions.weather<|message|>{\"town\": \"Be",
        ),
        ("<|channel|>commentary to=functions.weat".to_owned(), vec![], "", "<|channel|>commentary to=functions.weat"),
    ];
    for (answer, calls, reasoning, text) in cases {
        let ours = parse(harmony, &answer);
        let calls: Vec<(String, Value)> = calls
            .into_iter()
            .map(|(name, arguments)| (name.to_owned(), arguments))
            .collect();
        assert_eq!(
            (ours.calls, ours.reasoning.as_str(), ours.text.as_str()),
            (calls, reasoning, text),
            "{answer}"
        );
    }
}

#[test]
fn reasoning_is_split_from_the_text() {
    let thinks = |reasoning, opened, answer: &str| {
        let Found {
            text,
            reasoning,
            calls,
            undone,
        } = found(&events(syntax(Tags, reasoning), opened, [answer]));
        assert_eq!((calls.len(), undone), (0, 0));
        (reasoning, text)
    };
    let pair = |reasoning: &str, text: &str| (reasoning.to_owned(), text.to_owned());
    use ReasoningSyntax::*;
    assert_eq!(
        thinks(Think, false, "<think>\na\n\nb\n</think>\n\n42"),
        pair("a\n\nb", "42")
    );
    assert_eq!(
        thinks(Think, false, "\n<think>\n\n</think>\n\n42\n"),
        pair("", "42\n")
    );
    assert_eq!(
        thinks(Think, true, "a < b</thin\n</think>\n\n42"),
        pair("a < b</thin", "42")
    );
    assert_eq!(thinks(Think, true, "never ends"), pair("never ends", ""));
    // A word of the text, and what is no part of a thought.
    assert_eq!(
        thinks(Think, false, "The tag <think> is"),
        pair("", "The tag <think> is")
    );
    assert_eq!(thinks(Think, false, " 42 \n"), pair("", " 42 \n"));
    assert_eq!(
        thinks(Gemma4, false, "<|channel>thought\na\n<channel|>42"),
        pair("a", "42")
    );
    assert_eq!(
        thinks(Mistral, false, "[THINK]a[/THINK]4[THINK]b[/THINK]2"),
        pair("a\nb", "42")
    );
    // A call in a thought is thought of, and one behind it is one.
    let both = "<think><tool_call>{\"name\":\"now\"}</tool_call></think>\n<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
    let both = parse(syntax(Tags, Think), both);
    assert_eq!(both.reasoning, "<tool_call>{\"name\":\"now\"}</tool_call>");
    assert_eq!((both.calls.len(), both.text.as_str()), (1, ""));
}

#[test]
fn arguments_stream_and_keep_their_order() {
    let answers = [
        (
            Tags,
            "<tool_call>{\"name\": \"weather\", \"arguments\": {\"zone\": \"b\", \"area\": \"a",
            "{\"zone\": \"b\", \"area\": \"a",
        ),
        (
            Xml,
            "<tool_call><function=weather><parameter=town>\nzzz\n</parameter><parameter=town>\nB",
            "{\"town\":\"zzz\",\"town\":\"B",
        ),
        (
            Gemma4,
            "<|tool_call>call:weather{zone:1,area:<|\"|>a",
            "{\"zone\":1,\"area\":\"a",
        ),
        (
            Python,
            "[weather(zone=1, area='a",
            "{\"zone\":1,\"area\":\"a",
        ),
        (
            Llama,
            "{\"name\": \"weather\", \"parameters\": {\"zone\": \"b\", \"area\": \"a",
            "{\"zone\": \"b\", \"area\": \"a",
        ),
        (
            Mistral,
            "[TOOL_CALLS]weather[ARGS]{\"zone\": \"b\", \"area\": \"a",
            "{\"zone\": \"b\", \"area\": \"a",
        ),
        (
            Harmony,
            "<|channel|>commentary to=functions.weather<|message|>{\"zone\": \"b\", \"area\": \"a",
            "{\"zone\": \"b\", \"area\": \"a",
        ),
    ];
    for (calls, answer, arguments) in answers {
        let mut parser =
            ml_backend::chat::AnswerParser::new(syntax(calls, None), &super::tools(), false, 0);
        let so_far: String = parser
            .push(answer)
            .iter()
            .filter_map(|event| match event {
                ml_backend::AnswerEvent::ToolCallArguments { json, .. } => Some(json.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(so_far, arguments, "{calls:?}");
    }
}

#[test]
fn without_tools_calls_are_text() {
    let answer = "<think>a</think><tool_call>{\"name\": \"now\"}</tool_call>";
    let mut parser =
        ml_backend::chat::AnswerParser::new(syntax(Tags, ReasoningSyntax::Think), &[], false, 0);
    let mut all = parser.push(answer);
    all.extend(parser.finish());
    let ours = found(&super::merged(all));
    assert_eq!(
        (ours.reasoning.as_str(), ours.text.as_str()),
        ("a", "<tool_call>{\"name\": \"now\"}</tool_call>")
    );
}
