//! Whole chats, rendered and encoded, equal transformers': 21 templates on up to 32 conversations, the
//! built-in formats among them. `tools/reference/chats.py` made the reference.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ml_backend::chat::{ChatError, ChatFormat, JinjaTemplate, Message, Variables};
use models::tokenizer::Tokenizer;
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    templates: BTreeMap<String, String>,
    conversations: BTreeMap<String, Vec<Message>>,
    cases: Vec<Case>,
    expression_messages: Vec<Message>,
    expressions: Vec<Expression>,
    corners: Vec<Expression>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    tokenizer: String,
    conversation: String,
    add_generation_prompt: bool,
    variables: Variables,
    /// What transformers renders,
    text: Option<String>,
    /// its ids as transformers encodes a chat (without adding special tokens),
    ids: Option<Vec<u32>>,
    /// and, for the built-in formats, with them;
    ids_with_special_tokens: Option<Vec<u32>>,
    /// or what kind of error it is: `raised` by the template, or one of Jinja2's,
    error: Option<String>,
    /// and what the template raised.
    message: Option<String>,
}

#[derive(Deserialize)]
struct Expression {
    source: String,
    text: String,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn fixture() -> Fixture {
    let text = std::fs::read_to_string(fixtures().join("chats.json"));
    let text = text.expect("the fixture is in the repository");
    serde_json::from_str(&text).expect("the fixture has this form")
}

fn tokenizers() -> BTreeMap<&'static str, Tokenizer> {
    let open = |name| {
        let dir = fixtures().join("tokenizers").join(name);
        (
            name,
            Tokenizer::from_dir(&dir).expect("the fixture is in the repository"),
        )
    };
    ["bytelevel", "spm", "spm-prefix"].map(open).into()
}

impl Fixture {
    /// The format of a case. The built-in ones are ours, not the templates that stand for them.
    fn format(&self, case: &Case, tokenizer: &Tokenizer) -> Result<ChatFormat, ChatError> {
        match case.template.as_str() {
            "builtin-chatml" => ChatFormat::built_in("qwen3"),
            "builtin-gemma" => ChatFormat::built_in("gemma3_text"),
            "builtin-gemma4" => ChatFormat::built_in("gemma4_text"),
            name => {
                let template = JinjaTemplate::new(Path::new(name), &self.templates[name])?;
                let template = template.with_variables(tokenizer.special_tokens());
                Ok(ChatFormat::Template(Box::new(template)))
            }
        }
    }

    fn render(&self, case: &Case, tokenizer: &Tokenizer) -> Result<String, ChatError> {
        let messages = &self.conversations[&case.conversation];
        let format = self.format(case, tokenizer)?;
        format.render(messages, case.add_generation_prompt, &case.variables)
    }
}

impl Case {
    fn name(&self) -> String {
        let Self {
            template,
            tokenizer,
            conversation,
            ..
        } = self;
        format!("{template} on {conversation} with {tokenizer}")
    }
}

/// A checkpoint of Gemma 3n without a template has Gemma's turns.
#[test]
fn gemma_3n_has_the_turns_of_gemma() {
    let fixture = fixture();
    let built_in = |case: &&Case| case.template == "builtin-gemma" && case.text.is_some();
    let mut equal = 0;
    for case in fixture.cases.iter().filter(built_in) {
        let messages = &fixture.conversations[&case.conversation];
        for model_type in ["gemma3n", "gemma3n_text"] {
            let format = ChatFormat::built_in(model_type).unwrap();
            let ours = format.render(messages, case.add_generation_prompt, &case.variables);
            assert_eq!(ours.ok(), case.text, "{}", case.name());
            equal += 1;
        }
    }
    assert!(equal > 2, "only {equal} chats");
}

#[test]
fn every_chat_is_rendered_and_encoded_as_by_transformers() {
    let (fixture, tokenizers) = (fixture(), tokenizers());
    let mut equal = 0;
    for case in &fixture.cases {
        let Some(theirs) = &case.text else { continue };
        let tokenizer = &tokenizers[case.tokenizer.as_str()];
        let ours = fixture.render(case, tokenizer);
        let ours = ours.unwrap_or_else(|error| panic!("{}: {error}", case.name()));
        assert_eq!(&ours, theirs, "{}", case.name());
        let ids = tokenizer.encode(&ours, false).unwrap();
        assert_eq!(Some(ids), case.ids, "{}", case.name());
        if case.ids_with_special_tokens.is_some() {
            let ids = tokenizer.encode(&ours, true).unwrap();
            assert_eq!(Some(ids), case.ids_with_special_tokens, "{}", case.name());
        }
        equal += 1;
    }
    assert!(equal > 400, "the fixture is not whole");
}

#[test]
fn a_chat_that_transformers_refuses_is_refused_with_the_same_words() {
    let (fixture, tokenizers) = (fixture(), tokenizers());
    let mut refused = 0;
    for case in &fixture.cases {
        let Some(theirs) = &case.error else { continue };
        let ours = fixture.render(case, &tokenizers[case.tokenizer.as_str()]);
        match (theirs.as_str(), &ours) {
            ("raised", Err(ChatError::Refused(message))) => {
                assert_eq!(Some(message), case.message.as_ref(), "{}", case.name());
            }
            ("TemplateSyntaxError", Err(ChatError::Syntax { .. })) => {}
            ("raised" | "TemplateSyntaxError", _) => panic!("{}: {ours:?}", case.name()),
            (_, Err(ChatError::Render { .. })) => {}
            _ => panic!("{}: {theirs}, but {ours:?}", case.name()),
        }
        refused += 1;
    }
    assert!(refused >= 15, "the fixture is not whole");
}

#[test]
fn a_directory_brings_its_template_and_special_tokens_or_gets_the_built_in_format() {
    let (fixture, tokenizers) = (fixture(), tokenizers());
    for name in ["bytelevel", "spm"] {
        let tokenizer = &tokenizers[name];
        let source = &tokenizer.chat_template().unwrap().unwrap().source;
        let format = ChatFormat::for_model("qwen3", tokenizer).unwrap();
        let cases = fixture
            .cases
            .iter()
            .filter(|case| case.tokenizer == name && fixture.templates[&case.template] == *source);
        let mut rendered = 0;
        for case in cases.filter(|case| case.text.is_some()) {
            let messages = &fixture.conversations[&case.conversation];
            let ours = format.render(messages, case.add_generation_prompt, &case.variables);
            assert_eq!(Some(ours.unwrap()), case.text, "{}", case.name());
            rendered += 1;
        }
        assert!(rendered > 10, "the template of {name} has cases");
        assert!(format.end_of_turn().is_none() && !format.encode_with_special_tokens());
    }
    let without = &tokenizers["spm-prefix"];
    assert!(matches!(
        ChatFormat::for_model("gemma3", without),
        Ok(ChatFormat::Gemma)
    ));
    assert!(matches!(
        ChatFormat::for_model("qwen3", without),
        Ok(ChatFormat::ChatMl)
    ));
    assert!(matches!(
        ChatFormat::for_model("mamba", without),
        Err(ChatError::NoFormat { .. })
    ));
}

fn differs(expression: &Expression, messages: &[Message]) -> Option<String> {
    let Expression { source, text } = expression;
    let template = JinjaTemplate::new(Path::new("expression"), source);
    let ours = template.and_then(|it| it.render(messages, true, &Variables::new()));
    match ours {
        Ok(ours) if ours == *text => None,
        ours => Some(format!("{source}\n  theirs {text:?}\n  ours   {ours:?}")),
    }
}

#[test]
fn the_expressions_of_real_templates_and_rare_ones_give_what_they_give_in_transformers() {
    let fixture = fixture();
    let expressions = fixture.expressions.iter().chain(&fixture.corners);
    let wrong: Vec<String> = expressions
        .filter_map(|it| differs(it, &fixture.expression_messages))
        .collect();
    assert!(fixture.expressions.len() > 60, "the fixture is not whole");
    assert!(fixture.corners.len() > 25, "the fixture is not whole");
    assert!(
        wrong.is_empty(),
        "{} expressions differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
