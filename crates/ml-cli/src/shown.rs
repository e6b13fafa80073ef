//! Printing an answer's parts as they come: reasoning dimmed or hidden, each call of a tool on a line.

use std::io::{IsTerminal, stdout};

use ml_backend::AnswerEvent;
use serde_json::json;

use crate::args::Reasoning;
use crate::output::print;

const DIM: &str = "\x1b[2m";
const NOT_DIM: &str = "\x1b[0m";

/// What was printed of an answer.
pub(crate) struct Shown {
    reasoning: bool,
    dim: bool,
    at: At,
    in_line: bool,
    /// The call that is under way.
    call: (String, String),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Start,
    Reasoning,
    Text,
}

impl Shown {
    /// `reasoning` unset shows it to a person and to nobody else.
    pub(crate) fn new(reasoning: Option<Reasoning>) -> Self {
        let terminal = stdout().is_terminal();
        Self {
            reasoning: match reasoning {
                Some(reasoning) => reasoning == Reasoning::Show,
                None => terminal,
            },
            dim: terminal,
            at: At::Start,
            in_line: false,
            call: (String::new(), String::new()),
        }
    }

    pub(crate) fn show(&mut self, event: &AnswerEvent) -> anyhow::Result<()> {
        match event {
            AnswerEvent::Reasoning(text) if self.reasoning => {
                if self.at != At::Reasoning {
                    self.end_line()?;
                    self.at = At::Reasoning;
                    self.style(DIM)?;
                }
                self.put(text)
            }
            AnswerEvent::Text(text) | AnswerEvent::ToolCallUndone { text, .. } => {
                self.after_reasoning()?;
                self.at = At::Text;
                self.put(text)
            }
            AnswerEvent::ToolCallStart { name, .. } => {
                self.call = (name.clone(), String::new());
                Ok(())
            }
            AnswerEvent::ToolCallArguments { json, .. } => {
                self.call.1.push_str(json);
                Ok(())
            }
            AnswerEvent::ToolCallEnd { .. } => {
                self.after_reasoning()?;
                self.end_line()?;
                self.at = At::Text;
                let (name, arguments) = std::mem::take(&mut self.call);
                let name = json!(name);
                let line = format!(
                    "{{\"name\": {name}, \"arguments\": {}}}\n",
                    arguments.trim()
                );
                self.put(&line)
            }
            _ => Ok(()),
        }
    }

    /// Ends what is not ended.
    pub(crate) fn finish(&mut self) -> anyhow::Result<()> {
        if self.at == At::Reasoning {
            self.style(NOT_DIM)?;
        }
        if self.at != At::Text || self.in_line {
            print("\n")?;
        }
        Ok(())
    }

    fn after_reasoning(&mut self) -> anyhow::Result<()> {
        if self.at == At::Reasoning {
            self.style(NOT_DIM)?;
            self.end_line()?;
            print("\n")?;
        }
        Ok(())
    }

    fn style(&self, code: &str) -> anyhow::Result<()> {
        match self.dim {
            true => print(code),
            false => Ok(()),
        }
    }

    fn put(&mut self, text: &str) -> anyhow::Result<()> {
        self.in_line = !text.ends_with('\n');
        print(text)
    }

    fn end_line(&mut self) -> anyhow::Result<()> {
        match std::mem::take(&mut self.in_line) {
            true => print("\n"),
            false => Ok(()),
        }
    }
}
