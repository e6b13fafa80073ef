//! Renders chats by chat templates, without a model.
//!
//!     cargo run -p ml-backend --example render < chats.json
//!
//! Standard input is a JSON object: `templates` by name, `conversations` by name, `special_tokens` by role, and `cases`
//! with the `template`, the `conversation` and the `variables` of each. Standard output has a line of JSON for each
//! case: its `text`, or the `error`. `cargo xtask templates` compares them with what transformers renders.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use ml_backend::Message;
use ml_backend::chat::{ChatFormat, JinjaTemplate, Variables};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Chats {
    templates: BTreeMap<String, String>,
    conversations: BTreeMap<String, Vec<Message>>,
    special_tokens: BTreeMap<String, String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    conversation: String,
    variables: Variables,
}

impl Chats {
    fn render(&self, case: &Case) -> Result<String> {
        let source = self.templates.get(&case.template);
        let source = source.with_context(|| format!("no template {}", case.template))?;
        let messages = self.conversations.get(&case.conversation);
        let messages = messages.with_context(|| format!("no chat {}", case.conversation))?;
        let tokens = self.special_tokens.iter();
        let tokens = tokens.map(|(role, token)| (role.as_str(), token.as_str()));
        let template = JinjaTemplate::new(Path::new(&case.template), source)?;
        let format = ChatFormat::Template(Box::new(template.with_variables(tokens)));
        Ok(format.render(messages, true, &case.variables)?)
    }
}

fn main() -> Result<()> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .context("cannot read standard input")?;
    let chats: Chats = serde_json::from_str(&text).context("standard input is no such JSON")?;
    let mut out = std::io::stdout().lock();
    for case in &chats.cases {
        let line: Value = match chats.render(case) {
            Ok(text) => json!({ "text": text }),
            Err(error) => json!({ "error": format!("{error:#}") }),
        };
        writeln!(out, "{line}")?;
    }
    Ok(())
}
