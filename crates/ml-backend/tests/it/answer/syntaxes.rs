//! The template says how a model writes; what it leaves out is known of its family.

use ml_backend::chat::{CallSyntax, ReasoningSyntax, Syntax};

use super::syntax;

#[test]
fn a_template_chooses_the_syntax() {
    use CallSyntax::*;
    let calls = [
        ("<tool_call>\n{\"name\": <function-name>", Tags),
        ("<tool_call>\n<function=f>\n<parameter=p>", Xml),
        ("<|tool_call>call:", Gemma4),
        ("<start_function_call>call:", FunctionGemma),
        ("[TOOL_CALLS][", Mistral),
        ("```tool_code", Python),
        ("[func_name1(params_name1=params_value1...)]", Python),
        (
            "{\"name\": function name, \"parameters\": dictionary}",
            Llama,
        ),
    ];
    for (words, calls) in calls {
        let template = format!("{{{{ '{words}' }}}}{{% if tools %}}");
        assert_eq!(
            Syntax::of(Some(&template), "other").calls,
            Some(calls),
            "{words}"
        );
    }
    let harmony = "<|start|>assistant<|channel|>final<|message|>";
    assert_eq!(
        Syntax::of(Some(harmony), "gpt_oss"),
        syntax(Harmony, ReasoningSyntax::Harmony)
    );
    for (words, reasoning) in [
        ("<think>", ReasoningSyntax::Think),
        ("[THINK]", ReasoningSyntax::Mistral),
        ("'<|channel>thought\n'", ReasoningSyntax::Gemma4),
    ] {
        assert_eq!(Syntax::of(Some(words), "other").reasoning, Some(reasoning));
    }
    assert_eq!(
        Syntax::of(Some("<tool_call>{{ name }}<arg_key>"), "glm4"),
        Syntax::default()
    );
}

#[test]
fn a_family_is_known_where_its_template_says_nothing() {
    let plain = |model| Syntax::of(Some("{{ messages[0].content }}"), model);
    assert_eq!(plain("qwen3"), syntax(CallSyntax::Tags, None));
    assert_eq!(plain("llama"), syntax(CallSyntax::Llama, None));
    assert_eq!(plain("mistral3"), syntax(CallSyntax::Mistral, None));
    assert_eq!(plain("gemma3_text"), syntax(CallSyntax::Python, None));
    assert_eq!(plain("mamba"), Syntax::default());
    assert_eq!(
        Syntax::of(None, "qwen3"),
        syntax(CallSyntax::Tags, ReasoningSyntax::Think)
    );
    assert_eq!(
        Syntax::of(None, "gemma4_text"),
        syntax(CallSyntax::Gemma4, ReasoningSyntax::Gemma4)
    );
}
