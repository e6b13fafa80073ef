//! A chat template, compiled and rendered.

use std::path::Path;

use ml_backend::chat::{ChatError, JinjaTemplate, Message, Variables};

use crate::check_refusal;
use crate::files::sections;

/// The template, the conversation (a list of messages) and further variables (an object).
pub(crate) const FILES: [&str; 3] = ["chat_template.jinja", "messages.json", "variables.json"];

pub(crate) fn run(data: &[u8]) {
    let files = sections(data, &FILES);
    let file = |name: &str| files.iter().find(|(it, _)| *it == name).map(|(_, it)| *it);
    let source = String::from_utf8_lossy(file(FILES[0]).unwrap_or_default());
    let messages: Option<Vec<Message>> =
        file(FILES[1]).and_then(|json| serde_json::from_slice(json).ok());
    let messages = messages.unwrap_or_else(|| {
        vec![
            Message::system("Be brief."),
            Message::user("What is 17 + 25?"),
            Message::assistant("<think>\nsum\n</think>\n\n42"),
            Message::user("Thanks 😀"),
        ]
    });
    let variables: Option<Variables> =
        file(FILES[2]).and_then(|json| serde_json::from_slice(json).ok());

    let template = match JinjaTemplate::new(Path::new("chat_template.jinja"), &source) {
        Ok(template) => template.with_variables([("bos_token", "<s>"), ("eos_token", "</s>")]),
        Err(error) => return check(&error),
    };
    if let Err(error) = template.render(&messages, true, &variables.unwrap_or_default()) {
        check(&error);
    }
}

fn check(error: &ChatError) {
    // What a template raises is its own words, as transformers gives them.
    if !matches!(error, ChatError::Refused(_)) {
        check_refusal(error);
    }
    // The interpreter is ours: that its panics are caught makes them no better.
    assert!(!error.to_string().contains("gave up"), "{error}");
}
