//! What a template writes of an assistant's thoughts and calls, the parser reads back.
//!
//! The templates have the forms of those that models bring; that they are rendered as transformers renders them,
//! `chat_reference` tests.

use std::path::Path;

use ml_backend::chat::{JinjaTemplate, Message, Syntax, ToolCall, Variables};
use serde_json::{Value, json};

use super::{events, found};

/// A form, and whether it writes several calls, text beside them, and thoughts.
struct Form {
    template: &'static str,
    several: bool,
    text: bool,
    thoughts: bool,
}

const FORMS: [Form; 9] = [
    // Qwen's and Hermes'.
    Form {
        template: "{% for m in messages %}{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}{{ m.content }}{% for c in m.tool_calls %}\n<tool_call>\n{\"name\": \"{{ c.function.name }}\", \"arguments\": {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}{% endfor %}",
        several: true,
        text: true,
        thoughts: true,
    },
    // Qwen3-Coder's and Qwen3.5's.
    Form {
        template: "{% for m in messages %}{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}{{ m.content }}{% for c in m.tool_calls %}\n<tool_call>\n<function={{ c.function.name }}>\n{% for k, v in c.function.arguments | items %}<parameter={{ k }}>\n{{ v | tojson if v is mapping or (v is sequence and v is not string) else v | string }}\n</parameter>\n{% endfor %}</function>\n</tool_call>{% endfor %}{% endfor %}",
        several: true,
        text: true,
        thoughts: true,
    },
    // Gemma 4's.
    Form {
        template: "{% macro arg(v) %}{% if v is string %}<|\"|>{{ v }}<|\"|>{% elif v is boolean %}{{ 'true' if v else 'false' }}{% elif v is mapping %}{{ '{' }}{% for k, w in v | items %}{{ k }}:{{ arg(w) }}{% if not loop.last %},{% endif %}{% endfor %}{{ '}' }}{% elif v is sequence %}[{% for w in v %}{{ arg(w) }}{% if not loop.last %},{% endif %}{% endfor %}]{% else %}{{ v }}{% endif %}{% endmacro %}{% for m in messages %}{% if m.reasoning_content %}<|channel>thought\n{{ m.reasoning_content }}\n<channel|>{% endif %}{% for c in m.tool_calls %}<|tool_call>call:{{ c.function.name }}{{ arg(c.function.arguments) }}<tool_call|>{% endfor %}{{ m.content }}{% endfor %}",
        several: true,
        text: true,
        thoughts: true,
    },
    // Llama 3.1's.
    Form {
        template: "{% for m in messages %}{% set c = m.tool_calls[0].function %}{\"name\": \"{{ c.name }}\", \"parameters\": {{ c.arguments | tojson }}}{% endfor %}",
        several: false,
        text: false,
        thoughts: false,
    },
    // Mistral's, old and new.
    Form {
        template: "{% for m in messages %}[TOOL_CALLS][{% for c in m.tool_calls %}{{ c.function | tojson }}{% if not loop.last %}, {% endif %}{% endfor %}]{% endfor %}",
        several: true,
        text: false,
        thoughts: false,
    },
    Form {
        template: "{% for m in messages %}{% if m.reasoning_content %}[THINK]{{ m.reasoning_content }}[/THINK]{% endif %}{{ m.content }}{% for c in m.tool_calls %}[TOOL_CALLS]{{ c.function.name }}[CALL_ID]{{ c.id }}[ARGS]{{ c.function.arguments | tojson }}{% endfor %}{% endfor %}",
        several: true,
        text: true,
        thoughts: true,
    },
    // gpt-oss's, behind the words of its prompt.
    Form {
        template: "{% for m in messages %}{% if m.reasoning_content %}<|channel|>analysis<|message|>{{ m.reasoning_content }}<|end|><|start|>assistant{% endif %} to=functions.{{ m.tool_calls[0].function.name }}<|channel|>commentary json<|message|>{{ m.tool_calls[0].function.arguments | tojson }}<|call|>{% endfor %}",
        several: false,
        text: false,
        thoughts: true,
    },
    // Llama 4's and Gemma 3's, in Python's form.
    Form {
        template: "{# [func_name1(params_name1=params_value1)] #}{% for m in messages %}[{% for c in m.tool_calls %}{{ c.function.name }}({% for k, v in c.function.arguments | items %}{{ k }}={{ v | pprint }}{% if not loop.last %}, {% endif %}{% endfor %}){% if not loop.last %}, {% endif %}{% endfor %}]{% endfor %}",
        several: true,
        text: false,
        thoughts: false,
    },
    Form {
        template: "{% for m in messages %}{{ m.content }}\n```tool_code\n{% for c in m.tool_calls %}{{ c.function.name }}({% for k, v in c.function.arguments | items %}{{ k }}={{ v | pprint }}{% if not loop.last %}, {% endif %}{% endfor %})\n{% endfor %}```{% endfor %}",
        several: true,
        text: true,
        thoughts: false,
    },
];

fn arguments() -> Value {
    json!({
        "unit": null, "town": "Zürich \"กรุงเทพ\" {a: 1}, [b] </x> \\ it's\nline", "days": 3, "limit": -0.5, "exact": true,
        // In order, as `pprint` has it.
        "where": {"b": [1, 2.5, "c, d", false, null], "empty": {}, "z": 1}, "hours": [],
    })
}

#[test]
fn calls_come_back_as_they_were_written() {
    for (number, form) in FORMS.iter().enumerate() {
        let template = JinjaTemplate::new(Path::new("form"), form.template).unwrap();
        let syntax = Syntax::of(Some(form.template), "other");
        for several in [false, true] {
            let mut message = Message::assistant(if form.text { "I look." } else { "" });
            if form.thoughts {
                message = message.reasoning("A call\n\nis needed.");
            }
            message = message.tool_call(ToolCall::new("weather", arguments()).id("abc123def"));
            if several && form.several {
                message = message.tool_call(ToolCall::new("now", json!({})).id("xyz456uvw"));
            }
            let rendered = template
                .render(&[message.clone()], false, &Variables::new())
                .unwrap();
            let found = found(&events(syntax, false, [rendered.as_str()]));
            let calls: Vec<(String, Value)> = message
                .tool_calls
                .iter()
                .map(|call| (call.name.clone(), call.arguments.clone()))
                .collect();
            assert_eq!(found.calls, calls, "{number} {rendered}");
            // The order too, which comparing objects does not see.
            assert_eq!(
                found.calls[0].1.to_string(),
                arguments().to_string(),
                "{number}"
            );
            assert_eq!(found.text, message.content, "{number} {rendered}");
            assert_eq!(
                found.reasoning,
                message.reasoning.unwrap_or_default(),
                "{number}"
            );
        }
    }
}
