//! Calls that a model has to make, in every syntax, by one that knows nothing: they are read as calls of the tools, and
//! their arguments are valid under the tools' schemas.

use serde_json::{Value, json};

use super::answers::validator;
use super::*;
use crate::chat::answer::forced::{Calls, Wanted};
use crate::chat::{AnswerEvent, AnswerParser, CallSyntax, Syntax};

/// A syntax, and what of a template chooses among its forms.
struct Case {
    syntax: CallSyntax,
    template: &'static str,
    /// Whether the whole schema is held to, and not types and shapes alone.
    whole: bool,
}

fn cases() -> Vec<Case> {
    use CallSyntax::*;
    let case = |syntax, template, whole| Case {
        syntax,
        template,
        whole,
    };
    vec![
        case(Tags, "", true),
        case(Llama, "", true),
        case(Mistral, "", true),
        case(Mistral, "[TOOL_CALLS]name[ARGS]", true),
        case(Harmony, "", true),
        case(Xml, "", false),
        case(Gemma4, "", false),
        case(FunctionGemma, "", false),
        case(Python, "", false),
        case(Python, "tool_code", false),
        case(Python, "<|tool_call_start|>", false),
    ]
}

/// Vocabularies that have no markers, markers as plain tokens, and as special ones.
fn vocabularies() -> [Model; 3] {
    let [plain, other] = models();
    [plain, other, marked(false)].map(|model| Model {
        skip_special: false,
        ..model
    })
}

const MARKERS: [&str; 18] = [
    "<tool_call>",
    "</tool_call>",
    "<|tool_call>",
    "<tool_call|>",
    "<|\"|>",
    "<start_function_call>",
    "<end_function_call>",
    "<escape>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "<|tool_call_start|>",
    "<|tool_call_end|>",
    "<|start|>",
    "<|channel|>",
    "<|message|>",
    "<|constrain|>",
    "<think>",
    "</think>",
];

/// The byte-level vocabulary with all markers in it.
fn marked(special: bool) -> Model {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/models/qwen3-demo");
    let own = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(dir.join("tokenizer.json")).unwrap();
    let mut file: Value = serde_json::from_str(&text).unwrap();
    let added = file["added_tokens"].as_array_mut().unwrap();
    let first = added.last().unwrap()["id"].as_u64().unwrap() + 1;
    for (id, content) in (first..).zip(MARKERS) {
        added.push(json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": special,
        }));
    }
    std::fs::write(own.path().join("tokenizer.json"), file.to_string()).unwrap();
    std::fs::copy(
        dir.join("tokenizer_config.json"),
        own.path().join("tokenizer_config.json"),
    )
    .unwrap();
    let tokenizer = Tokenizer::from_dir(own.path()).unwrap();
    for marker in MARKERS {
        let id = tokenizer.token_id(marker).unwrap();
        assert_eq!(tokenizer.is_special(id), special);
    }
    Model {
        rows: tokenizer.vocab_size() + 37,
        tokenizer,
        structures: Structures::default(),
        skip_special: false,
    }
}

fn tool(name: &str, parameters: Value) -> Value {
    json!({"type": "function", "function": {"name": name, "parameters": parameters}})
}

/// Every kind of parameter; texts and lists are bounded, so that answers end.
fn tools() -> Vec<Value> {
    let text = json!({"type": "string", "maxLength": 8});
    let point = json!({
        "type": "object",
        "properties": {"x": {"type": "number"}, "name": text, "more": {"$ref": "#/$defs/point"}},
        "required": ["x"],
    });
    let list =
        |items: Value| json!({"type": "array", "items": items, "minItems": 1, "maxItems": 3});
    let all = json!({
        "type": "object",
        "$defs": {"point": point, "count": {"type": "integer", "minimum": 1, "maximum": 20}},
        "properties": {
            "town": text,
            "unit": {"enum": ["celsius", "fahrenheit", "5", "a \"b\", {c}: <d>"]},
            "days": {"$ref": "#/$defs/count"},
            "exact": {"type": "boolean"},
            "limit": {"type": ["number", "null"]},
            "where": {"$ref": "#/$defs/point"},
            "names": list(text.clone()),
            "points": list(json!({"$ref": "#/$defs/point"})),
            "either": {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 9}, list(json!({"type": "boolean"})), {"type": "null"}]},
            "mixed": {"enum": [1, "two", null, true, [3, "x"]]},
            "counts": {"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 3},
            "nothing": {"type": "null"},
        },
        "required": ["town", "days", "where"],
    });
    let one = json!({"type": "object", "properties": {"only": {"type": "boolean"}}});
    vec![
        tool("weather", all),
        tool("weather_now", one),
        tool("now", Value::Null),
        json!({"name": "flat.tool", "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}),
    ]
}

fn schema_of<'t>(tools: &'t [Value], name: &str) -> Option<&'t Value> {
    let function = |tool: &'t Value| tool.get("function").unwrap_or(tool);
    let mut functions = tools.iter().map(function);
    let found = functions.find(|function| function["name"] == name)?;
    Some(found.get("parameters").unwrap_or(&found["input_schema"]))
}

fn form(case: &Case, tools: &[Value], several: bool, model: &Model) -> Form {
    let wanted = Wanted {
        syntax: case.syntax,
        template: case.template,
        tools,
        several,
        otherwise: None,
    };
    Form::Calls(Calls::new(&wanted, &model.tokenizer).unwrap())
}

/// The calls of an answer, which has nothing else.
fn calls(case: &Case, tools: &[Value], text: &str) -> Vec<(String, Value)> {
    let syntax = Syntax {
        calls: Some(case.syntax),
        reasoning: None,
    };
    let mut parser = AnswerParser::new(syntax, tools, false, 0);
    let mut events = parser.push(text);
    events.extend(parser.finish());
    let mut calls: Vec<(String, String)> = Vec::new();
    for event in events {
        match event {
            AnswerEvent::ToolCallStart { name, .. } => calls.push((name, String::new())),
            AnswerEvent::ToolCallArguments { json, .. } => {
                calls.last_mut().unwrap().1.push_str(&json);
            }
            AnswerEvent::ToolCallEnd { .. } => {}
            other => panic!("{:?} {other:?}: {text}", case.syntax),
        }
    }
    let read = |(name, json): (String, String)| (name, serde_json::from_str(&json).unwrap());
    calls.into_iter().map(read).collect()
}

#[track_caller]
fn check(case: &Case, tools: &[Value], text: &str) -> Vec<(String, Value)> {
    let calls = calls(case, tools, text);
    for (name, arguments) in &calls {
        let schema = schema_of(tools, name).unwrap_or_else(|| panic!("{name}: {text}"));
        assert!(arguments.is_object(), "{text}");
        if !schema.is_null() {
            let validator = validator(schema);
            let errors: Vec<_> = validator.iter_errors(arguments).collect();
            assert!(errors.is_empty(), "{:?} {errors:?}: {text}", case.syntax);
        }
    }
    calls
}

#[test]
fn what_a_model_that_knows_nothing_calls_are_the_tools_with_valid_arguments() {
    let tools = tools();
    let (mut ended, mut all, mut most) = (0, 0, 0);
    for model in vocabularies().iter().chain([&marked(true)]) {
        for case in &cases() {
            for several in [true, false] {
                let form = form(case, &tools, several, model);
                for seed in 0..10 {
                    let answer = model.answer_of(&form, seed);
                    all += 1;
                    if !answer.ended {
                        continue;
                    }
                    ended += 1;
                    let calls = check(case, &tools, &answer.text);
                    let good = calls.len() == 1 || (several && calls.len() > 1);
                    assert!(good, "{:?} {}", case.syntax, answer.text);
                    most = most.max(calls.len());
                }
            }
        }
    }
    assert!(ended * 10 >= all * 9, "{ended} of {all} ended");
    assert!(most > 2);
}

#[test]
fn arguments_in_json_are_valid_under_schemas_drawn_at_random() {
    let mut random = Rng::new(7);
    let model = marked(true);
    let (mut ended, mut all) = (0, 0);
    for i in 0..60 {
        let tools = [
            tool("first", generated::object(&mut random, 3)),
            tool("second", generated::object(&mut random, 2)),
        ];
        for case in cases().iter().filter(|case| case.whole) {
            let form = form(case, &tools, false, &model);
            let answer = model.answer_of(&form, i);
            all += 1;
            if answer.ended {
                ended += 1;
                check(case, &tools, &answer.text);
            }
        }
    }
    assert!(ended * 10 >= all * 9, "{ended} of {all} ended");
}

/// What a model that was trained for it writes.
#[test]
fn a_good_call_may_be_made() {
    let arguments =
        json!({"town": "Bern", "days": 3, "exact": true, "where": {"x": 1.5, "name": "a"}});
    let json = arguments.to_string();
    let tools = tools();
    let plain = [
        (0, format!("<tool_call>\n{{\"name\": \"weather\", \"arguments\": {json}}}\n</tool_call>")),
        (1, format!("{{\"name\": \"weather\", \"parameters\": {json}}}")),
        (2, format!("[TOOL_CALLS][{{\"name\": \"weather\", \"arguments\": {json}}}]")),
        (3, format!("[TOOL_CALLS]weather[ARGS]{json}")),
        (4, format!(" to=functions.weather<|channel|>commentary json<|message|>{json}")),
        (5, "<tool_call>\n<function=weather>\n<parameter=town>\nBern\n</parameter>\n<parameter=days>\n3\n</parameter>\n<parameter=exact>\ntrue\n</parameter>\n<parameter=where>\n{\"x\":1.5,\"name\":\"a\"}\n</parameter>\n</function>\n</tool_call>".to_owned()),
        (6, "<|tool_call>call:weather{town:<|\"|>Bern<|\"|>,days:3,exact:true,where:{x:1.5,name:<|\"|>a<|\"|>}}<tool_call|>".to_owned()),
        (7, "<start_function_call>call:weather{town:<escape>Bern<escape>,days:3,exact:true,where:{x:1.5,name:<escape>a<escape>}}<end_function_call>".to_owned()),
        (8, "[weather(town=\"Bern\", days=3, exact=True, where={\"x\": 1.5, \"name\": \"a\"})]".to_owned()),
        (9, "```tool_code\nweather(town=\"Bern\", days=3, exact=True, where={\"x\": 1.5, \"name\": \"a\"})\n```".to_owned()),
        (10, "<|tool_call_start|>[weather(town=\"Bern\", days=3, exact=True, where={\"x\": 1.5, \"name\": \"a\"})]<|tool_call_end|>".to_owned()),
    ];
    for model in vocabularies().iter().chain([&marked(true)]) {
        for (case, (at, text)) in cases().iter().zip(&plain) {
            let form = form(case, &tools, true, model);
            assert!(model.takes_of(&form, text), "{at} {text}");
            let calls = check(case, &tools, text);
            assert_eq!(calls, [("weather".to_owned(), arguments.clone())]);
            // Another tool, and a key that it does not know.
            let other = text.replace("weather", "whether");
            assert!(!model.takes_of(&form, &other), "{other}");
            let other = text.replace("days", "date");
            assert!(!model.takes_of(&form, &other), "{other}");
        }
    }
}

#[test]
fn what_cannot_be_held_to_is_refused_and_named() {
    let [model, _] = models();
    let refused = |syntax, tool: Value| {
        let wanted = Wanted {
            syntax,
            template: "",
            tools: &[tool],
            several: true,
            otherwise: None,
        };
        match Calls::new(&wanted, &model.tokenizer) {
            Ok(calls) => match model.matcher_of(&Form::Calls(calls)) {
                Ok(_) => panic!("it was taken"),
                Err(error) => error.to_string(),
            },
            Err(problem) => problem,
        }
    };
    let below = json!({"type": "object", "properties": {"a": {"not": {"type": "string"}}}, "required": ["a"]});
    let error = refused(CallSyntax::Tags, tool("now", below));
    assert!(
        error.contains("`not` (at #/properties/a of now)"),
        "{error}"
    );
    let error = refused(
        CallSyntax::Python,
        tool("get-time", json!({"type": "object"})),
    );
    assert!(error.contains("\"get-time\""), "{error}");
    let error = refused(CallSyntax::Tags, tool("now", json!({"type": "array"})));
    assert!(error.contains("arguments are an object"), "{error}");
    let lost =
        json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}, "required": ["a"]});
    for syntax in [CallSyntax::Gemma4, CallSyntax::Xml] {
        let error = refused(syntax, tool("now", lost.clone()));
        assert!(error.contains("#/$defs/none"), "{error}");
    }
}
