//! Chat templates that come with a checkpoint, rendered as transformers renders them.
//!
//! Templates are Python in disguise: they call methods of `str`, print `None` and `True`, and lean
//! on details of Python's `json`. So this is an interpreter of Jinja2's language on Python's
//! values, in the setting that transformers gives it: a sandbox in which nothing changes but
//! namespaces, `trim_blocks` and `lstrip_blocks`, its `tojson`, `raise_exception`, `strftime_now`
//! and `generation`. The reference tests render the same templates with transformers.
//!
//! - `syntax/` reads a template: `lexer`, then `statements` and `expressions`, to the tree of `ast`;
//! - `run/` runs the tree;
//! - `value/` has Python's values, `python/` their operators and methods;
//! - `filters/`, `tests`, `globals` and `json` are what a template finds in its environment;
//! - `meter` holds a template to what it may cost.
//!
//! Known differences, which no known template meets: integers end at 127 bits, a generator is
//! filled when it is made, `urlize` and `lipsum` are not there, and `random` is not.

mod failure;
mod filters;
mod globals;
mod json;
mod meter;
mod python;
mod run;
mod syntax;
mod tests;
mod value;

use std::path::{Path, PathBuf};

use failure::{Failure, Outcome};
use run::Run;
use syntax::Template;
use value::Value;

use super::{ChatError, Message, weight_of};

/// Further variables of a template, such as `enable_thinking`.
pub type Variables = serde_json::Map<String, serde_json::Value>;

/// A chat template, read.
#[derive(Debug)]
pub struct JinjaTemplate {
    template: Template,
    path: PathBuf,
    /// Variables of every rendering: the special tokens.
    variables: Vec<(String, String)>,
    /// Whether the template has something for tools, for the role `developer`, and for content in parts.
    knows_tools: bool,
    knows_developer: bool,
    knows_parts: bool,
}

impl JinjaTemplate {
    /// Reads a template. `path` is the file that holds it, for error messages.
    ///
    /// # Errors
    /// [`ChatError::Syntax`] with file and line, for a template of more than a megabyte too.
    pub fn new(path: &Path, source: &str) -> Result<Self, ChatError> {
        let template = on_own_stack(|| syntax::parse(source));
        let template = template.map_err(|failure| ChatError::Syntax {
            path: path.to_owned(),
            line: line(&failure),
            problem: one_line(&failure.message),
        })?;
        Ok(Self {
            template,
            path: path.to_owned(),
            variables: Vec::new(),
            knows_tools: source.contains("tool"),
            knows_developer: source.contains("developer"),
            // It asks for the type of what it finds in a content.
            knows_parts: source.contains("type")
                && ["'text'", "\"text\""].iter().any(|t| source.contains(t)),
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
            .extend(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
        self
    }

    pub(super) fn knows_tools(&self) -> bool {
        self.knows_tools
    }

    /// Renders a conversation. `variables` take precedence over those of [`Self::with_variables`].
    ///
    /// A template may take three million steps and hold 128 MB, and more for a long conversation.
    ///
    /// # Errors
    /// [`ChatError::Refused`] if the template calls `raise_exception`, [`ChatError::Render`] if
    /// it fails or costs too much.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        variables: &Variables,
    ) -> Result<String, ChatError> {
        let rendered = on_own_stack(|| {
            let messages_weight = messages.iter().map(Message::weight).sum::<usize>();
            meter::start(messages_weight + variables.values().map(weight_of).sum::<usize>());
            let given = self.given(messages, add_generation_prompt, variables)?;
            Run::render(&self.template, given)
        });
        rendered.map_err(|failure| {
            if failure.refused {
                return ChatError::Refused(failure.message);
            }
            ChatError::Render {
                path: self.path.clone(),
                line: line(&failure),
                problem: one_line(&failure.message),
            }
        })
    }

    /// The variables that the template sees; of those with the same name the last counts.
    fn given<'a>(
        &'a self,
        messages: &[Message],
        add_generation_prompt: bool,
        variables: &'a Variables,
    ) -> Outcome<Vec<(&'a str, Value)>> {
        let mut given = Vec::new();
        for (name, value) in &self.variables {
            given.push((name.as_str(), Value::str(value.as_str())?));
        }
        let messages = messages.iter().map(|message| {
            let seen = message.to_template(self.knows_developer, self.knows_parts);
            json::to_template(&seen.into())
        });
        given.push(("messages", Value::list(messages.collect::<Outcome<_>>()?)?));
        given.push(("tools", Value::None));
        given.push(("documents", Value::None));
        given.push(("add_generation_prompt", Value::Bool(add_generation_prompt)));
        for (name, value) in variables {
            given.push((name.as_str(), json::to_template(value)?));
        }
        Ok(given)
    }
}

/// Runs something on a thread of its own: with a stack that is large enough whatever is left of
/// the caller's, and with a meter of its own.
fn on_own_stack<T: Send>(work: impl FnOnce() -> Outcome<T> + Send) -> Outcome<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("chat template".to_owned());
        let thread = thread.stack_size(meter::STACK_BYTES);
        match thread.spawn_scoped(scope, work) {
            Ok(thread) => thread
                .join()
                .unwrap_or_else(|_| Err(Failure::new("the template engine gave up"))),
            Err(cause) => Err(Failure::new(format!("no thread for the template: {cause}"))),
        }
    })
}

fn line(failure: &Failure) -> usize {
    failure
        .line
        .and_then(|line| usize::try_from(line).ok())
        .unwrap_or(1)
}

/// A message on one line, and not too long for it.
fn one_line(message: &str) -> String {
    let short: String = message.chars().take(500).collect();
    let words = short.split(|c: char| c.is_whitespace() || c.is_control());
    let words = words.filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}
