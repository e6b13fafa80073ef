//! A checkpoint's Jinja template, rendered as transformers renders it.
//!
//! Jinja2 templates are Python in disguise: they call `str` methods, print `None` and `True`,
//! and lean on details of Python's `json`. MiniJinja covers the language; `environment` sets it
//! up as transformers sets up Jinja2, and `methods`, `filters`, `json` and `source` close the gaps
//! that real templates fall into. The reference tests render the same templates with
//! transformers.
//!
//! Known differences, which none of the supported families' templates meets: a loop over `None`
//! is empty and not an error, `+` on a string marked safe does not escape the other one, and the
//! corners listed in `tests/chat_reference.rs`.

mod environment;
mod filters;
mod json;
mod methods;
mod python;
mod source;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use minijinja::{Error, ErrorKind, Value};

use super::{ChatError, Message};

/// Further variables of a template, such as `enable_thinking`.
pub type Variables = serde_json::Map<String, serde_json::Value>;

/// The one template of an environment.
const NAME: &str = "chat";

/// A compiled chat template.
#[derive(Debug)]
pub struct JinjaTemplate {
    environment: minijinja::Environment<'static>,
    path: PathBuf,
    /// Variables of every rendering: the special tokens.
    variables: Vec<(String, Value)>,
}

impl JinjaTemplate {
    /// Compiles a template. `path` is the file that holds it, for error messages.
    ///
    /// # Errors
    /// [`ChatError::Syntax`] with file and line.
    pub fn new(path: &Path, source: &str) -> Result<Self, ChatError> {
        let mut environment = environment::environment();
        let source = source::prepare(source);
        let lines = source.lines().count();
        environment
            .add_template_owned(NAME, source)
            .map_err(|error| ChatError::Syntax {
                path: path.to_owned(),
                line: error.line().unwrap_or(lines),
                problem: problem(&error),
            })?;
        Ok(Self {
            environment,
            path: path.to_owned(),
            variables: Vec::new(),
        })
    }

    /// Gives the template variables for every rendering, such as `bos_token`.
    #[must_use]
    pub fn with_variables<'a>(
        mut self,
        variables: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let variables = variables.into_iter();
        self.variables
            .extend(variables.map(|(name, value)| (name.to_owned(), value.into())));
        self
    }

    /// Renders a conversation. `variables` take precedence over those of [`Self::with_variables`].
    ///
    /// # Errors
    /// [`ChatError::Refused`] if the template calls `raise_exception`, [`ChatError::Render`] if
    /// it fails.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        variables: &Variables,
    ) -> Result<String, ChatError> {
        let messages = messages.iter().map(|message| {
            let role = ("role", Value::from(message.role.as_str()));
            Value::from_pairs([role, ("content", Value::from(message.content.as_str()))])
        });
        let own = self.variables.iter().cloned();
        let conversation = [
            ("messages", messages.collect()),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
        ];
        let conversation = conversation.map(|(name, value)| (name.to_owned(), value));
        let further = variables
            .iter()
            .map(|(name, it)| (name.clone(), json::to_template(it)));
        let context = Value::from_pairs(own.chain(conversation).chain(further));
        let template = self.environment.get_template(NAME);
        // A template is a file from outside, and the engine has corners where one can trip it.
        let render = || template.and_then(|template| template.render(context));
        let rendered = catch_unwind(AssertUnwindSafe(render)).unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::InvalidOperation,
                "the template engine gave up",
            ))
        });
        rendered.map_err(|error| match environment::refusal(&error) {
            Some(message) => ChatError::Refused(message.to_owned()),
            None => ChatError::Render {
                path: self.path.clone(),
                line: error.line().unwrap_or(1),
                problem: problem(&error),
            },
        })
    }
}

/// What an error says, without the place, on one line.
fn problem(error: &Error) -> String {
    let kind = error.kind();
    let message = match error.detail() {
        Some(detail) => format!("{kind}: {detail}"),
        None => kind.to_string(),
    };
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
