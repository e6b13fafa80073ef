//! Templates render as transformers renders them: construct by construct, and with whitespace
//! control drawn at random. `tools/reference/jinja.py` made the reference.

use std::path::Path;

use ml_backend::chat::{ChatError, JinjaTemplate, Message, Variables};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    messages: Vec<Message>,
    special_tokens: Variables,
    variables: Variables,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    /// What transformers renders, or
    text: Option<String>,
    /// why it does not.
    error: Option<String>,
}

fn fixture() -> Fixture {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/jinja.json");
    let text = std::fs::read_to_string(path).expect("the fixture is in the repository");
    serde_json::from_str(&text).expect("the fixture has this form")
}

impl Fixture {
    fn render(&self, case: &Case) -> Result<String, ChatError> {
        let tokens = self.special_tokens.iter();
        let tokens = tokens.filter_map(|(role, token)| Some((role.as_str(), token.as_str()?)));
        JinjaTemplate::new(Path::new("chat_template.jinja"), &case.template)?
            .with_variables(tokens)
            .render(&self.messages, true, &self.variables)
    }
}

#[test]
fn every_construct_renders_as_in_transformers() {
    let fixture = fixture();
    let mut wrong = Vec::new();
    for case in &fixture.cases {
        let ours = fixture.render(case);
        let equal = match (&case.text, &ours) {
            (Some(theirs), Ok(ours)) => theirs == ours,
            (None, Err(_)) => true,
            _ => false,
        };
        if !equal {
            let theirs = case.text.as_ref().or(case.error.as_ref());
            wrong.push(format!(
                "{:?}\n  theirs {theirs:?}\n  ours   {ours:?}",
                case.template
            ));
        }
    }
    assert!(fixture.cases.len() > 350, "the fixture is not whole");
    assert!(
        wrong.is_empty(),
        "{} templates differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn an_exception_that_a_template_raises_keeps_its_message() {
    let fixture = fixture();
    let mut raised = 0;
    for case in &fixture.cases {
        let Some(error) = case.error.as_deref() else {
            continue;
        };
        let Some(message) = error.strip_prefix("TemplateError: ") else {
            continue;
        };
        match fixture.render(case) {
            Err(ChatError::Refused(ours)) => assert_eq!(ours, message),
            other => panic!("{:?} is not refused but {other:?}", case.template),
        }
        raised += 1;
    }
    assert!(raised >= 3, "the fixture raises too little");
}
