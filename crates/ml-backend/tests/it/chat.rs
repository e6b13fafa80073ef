//! Chat formats as a user meets them: which one serves, what the built-in ones write, and what
//! goes wrong in words.

use std::path::Path;

use ml_backend::chat::{ChatError, ChatFormat, JinjaTemplate, Message, Role, ToolCall, Variables};
use serde_json::json;

fn conversation() -> Vec<Message> {
    vec![
        Message::system("Be brief."),
        Message::user("Hi  there\n"),
        Message::assistant(""),
        Message::user("日本 😀"),
    ]
}

fn template(source: &str) -> Result<JinjaTemplate, ChatError> {
    JinjaTemplate::new(Path::new("model/chat_template.jinja"), source)
}

fn render(source: &str, variables: &Variables) -> Result<String, ChatError> {
    template(source)?.render(&conversation(), true, variables)
}

#[test]
fn chat_ml_writes_each_turn_between_its_marks() {
    let format = ChatFormat::built_in("qwen3").unwrap();
    let text = format
        .render(&conversation(), true, &Variables::new())
        .unwrap();
    assert_eq!(
        text,
        "<|im_start|>system\nBe brief.<|im_end|>\n\
         <|im_start|>user\nHi  there\n<|im_end|>\n\
         <|im_start|>assistant\n<|im_end|>\n\
         <|im_start|>user\n日本 😀<|im_end|>\n\
         <|im_start|>assistant\n"
    );
    assert_eq!(format.end_of_turn(), Some("<|im_end|>"));
}

#[test]
fn gemma_has_no_system_role_and_calls_the_assistant_model() {
    for model_type in ["gemma3", "gemma3_text"] {
        let format = ChatFormat::built_in(model_type).unwrap();
        let text = format
            .render(&conversation(), true, &Variables::new())
            .unwrap();
        assert_eq!(
            text,
            "<start_of_turn>user\n[System: Be brief.]<end_of_turn>\n\
             <start_of_turn>user\nHi  there\n<end_of_turn>\n\
             <start_of_turn>model\n<end_of_turn>\n\
             <start_of_turn>user\n日本 😀<end_of_turn>\n\
             <start_of_turn>model\n"
        );
        assert_eq!(format.end_of_turn(), Some("<end_of_turn>"));
    }
}

#[test]
fn without_a_generation_prompt_the_text_ends_with_the_last_turn() {
    for (model_type, end) in [
        ("qwen3", "<|im_end|>\n"),
        ("gemma3_text", "<end_of_turn>\n"),
    ] {
        let format = ChatFormat::built_in(model_type).unwrap();
        let text = format
            .render(&conversation(), false, &Variables::new())
            .unwrap();
        assert!(text.ends_with(&format!("日本 😀{end}")), "{text}");
    }
}

#[test]
fn a_family_without_a_built_in_format_is_an_error_that_says_what_to_do() {
    let error = ChatFormat::built_in("mamba").unwrap_err().to_string();
    assert!(
        error.contains("'mamba'") && error.contains("chat_template.jinja"),
        "{error}"
    );
}

#[test]
fn an_empty_conversation_is_refused_by_every_format() {
    let own = ChatFormat::Template(Box::new(template("{{ messages|length }}").unwrap()));
    let built_in = ["qwen3", "gemma3"].map(|family| ChatFormat::built_in(family).unwrap());
    for format in built_in.iter().chain([&own]) {
        let result = format.render(&[], true, &Variables::new());
        assert!(matches!(result, Err(ChatError::Empty)), "{result:?}");
    }
}

#[test]
fn only_a_template_of_the_checkpoint_writes_special_tokens_itself() {
    let own = ChatFormat::Template(Box::new(template("{{ bos_token }}").unwrap()));
    assert!(!own.encode_with_special_tokens());
    assert!(
        ChatFormat::built_in("gemma3")
            .unwrap()
            .encode_with_special_tokens()
    );
}

#[test]
fn a_syntax_error_is_reported_when_the_template_is_loaded_with_file_and_line() {
    let error = template("line one\n{% if messages %}\n{{ messages[0].content }\n").unwrap_err();
    assert!(
        matches!(error, ChatError::Syntax { line: 3, .. }),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.starts_with("model/chat_template.jinja: line 3"),
        "{text}"
    );
    assert!(!text.contains('\n'), "{text}");

    let unclosed = template("a\n{% for m in messages %}\nb\n").unwrap_err();
    assert!(matches!(unclosed, ChatError::Syntax { .. }), "{unclosed:?}");
}

#[test]
fn a_failure_while_rendering_names_the_line_and_the_cause() {
    let error = render(
        "{# one #}\n\n{{ messages[0].nothing.more }}",
        &Variables::new(),
    );
    let text = error.unwrap_err().to_string();
    assert!(
        text.starts_with("model/chat_template.jinja: line 3"),
        "{text}"
    );
    assert!(text.contains("has no attribute 'nothing'"), "{text}");
}

#[test]
fn what_a_template_raises_is_what_the_user_reads() {
    let source = "{% macro check() %}{{ raise_exception('Only \"user\" please') }}{% endmacro %}{{ check() }}";
    match render(source, &Variables::new()) {
        Err(ChatError::Refused(message)) => assert_eq!(message, "Only \"user\" please"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn variables_reach_the_template_and_win_over_the_special_tokens() {
    let source = "{{ bos_token }}{{ enable_thinking }}{{ extra.list[1] }}{{ extra.none is none }}";
    let extra = json!({"list": [1, 2.5], "none": null});
    let variables = json!({"bos_token": "<B>", "enable_thinking": false, "extra": extra});
    let variables = variables.as_object().unwrap();
    let template = template(source)
        .unwrap()
        .with_variables([("bos_token", "<s>")]);
    let text = template.render(&conversation(), false, variables).unwrap();
    assert_eq!(text, "<B>False2.5True");
    let text = template.render(
        &conversation(),
        false,
        json!({"extra": extra}).as_object().unwrap(),
    );
    assert_eq!(text.unwrap(), "<s>2.5True");
}

#[test]
fn content_is_never_read_as_a_template() {
    let source = "{% for m in messages %}{{ m.content }}{% endfor %}";
    let content = "{{ bos_token }}{% if %}{# x #}\\n<script>&\"'";
    let text = template(source)
        .unwrap()
        .render(&[Message::user(content)], true, &Variables::new());
    assert_eq!(text.unwrap(), content);
}

#[test]
fn strftime_now_gives_todays_date() {
    let text = render("{{ strftime_now('%Y-%m-%d %!|%-d') }}", &Variables::new()).unwrap();
    let (date, day) = text
        .split_once(" %!|")
        .expect("unknown directives stay as they are");
    let numbers: Vec<u32> = date.split('-').map(|part| part.parse().unwrap()).collect();
    assert!(
        matches!(numbers[..], [2025..=9999, 1..=12, 1..=31]),
        "{text}"
    );
    assert_eq!(day, numbers[2].to_string());
}

#[test]
fn a_template_that_never_ends_is_an_error() {
    let endless = [
        "{% macro r(x) %}{{ r(x + 1) }}{% endmacro %}{{ r(0) }}",
        "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{{ range(1000000000)|list }}",
    ];
    // The stack of a thread that a program might well run this on.
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    let render_all = move || {
        for source in endless {
            let result = render(source, &Variables::new());
            assert!(
                matches!(result, Err(ChatError::Render { .. })),
                "{source}: {result:?}"
            );
        }
    };
    thread.spawn(render_all).unwrap().join().unwrap();
}

fn message(json: serde_json::Value) -> Message {
    serde_json::from_value(json).unwrap()
}

#[test]
fn messages_are_written_as_every_chat_api_writes_them() {
    let json = r#"{"role": "user", "content": "x"}"#;
    assert_eq!(
        serde_json::from_str::<Message>(json).unwrap(),
        Message::user("x")
    );
    for role in ["system", "developer", "user", "assistant", "tool"] {
        let written = json!({"role": role, "content": "x"});
        assert_eq!(
            serde_json::to_value(message(written.clone())).unwrap(),
            written
        );
    }
    assert!(serde_json::from_str::<Message>(r#"{"role": "other", "content": "x"}"#).is_err());

    let call = ToolCall::new("weather", json!({"town": "Zürich", "days": 3})).id("a");
    let calls = Message::assistant("")
        .reasoning("why")
        .tool_call(call.clone());
    let written = json!({
        "role": "assistant", "content": "", "reasoning_content": "why",
        "tool_calls": [{
            "id": "a", "type": "function",
            "function": {"name": "weather", "arguments": r#"{"town":"Zürich","days":3}"#},
        }],
    });
    assert_eq!(serde_json::to_value(&calls).unwrap(), written);
    assert_eq!(message(written), calls);
    let answer = json!({"role": "tool", "content": "31", "tool_call_id": "a", "name": "weather"});
    assert_eq!(message(answer), Message::tool(&call, "31"));
    let reasoning = json!({"role": "assistant", "content": "", "reasoning": "why"});
    assert_eq!(message(reasoning), Message::assistant("").reasoning("why"));
    let empty = json!({"role": "assistant", "tool_calls": [{"function": {"name": "now", "arguments": ""}}]});
    assert_eq!(message(empty).tool_calls[0].arguments, json!(""));
}

#[test]
fn what_is_no_text_is_refused_by_its_type() {
    let image =
        json!([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}]);
    let content =
        |content| serde_json::from_value::<Message>(json!({"role": "user", "content": content}));
    assert!(
        content(image)
            .unwrap_err()
            .to_string()
            .contains("'image_url'")
    );
    for other in [
        json!(1),
        json!([1]),
        json!({"text": "a"}),
        json!([{"type": "text"}]),
    ] {
        let error = content(other.clone())
            .expect_err(&other.to_string())
            .to_string();
        assert!(error.contains("content"), "{error}");
    }
    let lines = json!([{"type": "input_text", "text": "a"}, {"text": "b"}, "c"]);
    assert_eq!(content(lines).unwrap().content, "a\nb\nc");
}

#[test]
fn a_template_is_given_what_it_knows() {
    let render = |source: &str, messages: &[Message]| {
        let template = JinjaTemplate::new(Path::new("t"), source).unwrap();
        template.render(messages, false, &Variables::new()).unwrap()
    };
    let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
    let said = [message(json!({"role": "developer", "content": parts}))];
    assert_eq!(
        render("{{ messages[0].role }}: {{ messages[0].content }}", &said),
        "system: a\nb"
    );
    let knows = "{% if messages[0].role == 'developer' %}{% for part in messages[0].content %}\
                 {% if part.type == 'text' %}[{{ part.text }}]{% endif %}{% endfor %}{% endif %}";
    assert_eq!(render(knows, &said), "[a][b]");
    // What was changed since it was sent counts.
    let mut changed = said;
    changed[0].content = "c".to_owned();
    assert_eq!(
        render(
            "{# developer, type 'text' #}{{ messages[0].content }}",
            &changed
        ),
        "c"
    );
}

#[test]
fn a_format_without_tools_says_so() {
    let call = ToolCall::new("now", json!({}));
    let tools: Variables =
        serde_json::from_value(json!({"tools": [{"type": "function"}]})).unwrap();
    for format in ["qwen3", "gemma"].map(|name| ChatFormat::built_in(name).unwrap()) {
        for (messages, variables) in [
            (vec![Message::user("x")], tools.clone()),
            (vec![Message::tool(&call, "x")], Variables::new()),
            (
                vec![Message::assistant("").tool_call(call.clone())],
                Variables::new(),
            ),
        ] {
            let error = format.render(&messages, true, &variables).unwrap_err();
            assert!(matches!(error, ChatError::NoTools), "{error}");
        }
        let developer = format.render(
            &[Message::new(Role::Developer, "x")],
            true,
            &Variables::new(),
        );
        let system = format.render(&[Message::system("x")], true, &Variables::new());
        assert_eq!(developer.unwrap(), system.unwrap());
    }
}
