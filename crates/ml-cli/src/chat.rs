//! `ml chat`: a conversation, line by line.
//!
//! Ctrl-C stops an answer, and what was said of it stays in the conversation, as the person at the
//! terminal saw it. A failure ends the program only where nobody is there to read it.

use std::process::ExitCode;

use ml_backend::{Error, FinishReason, Generation, Message, MlxBackend, Options};

use crate::answer::follow;
use crate::args::ChatArgs;
use crate::lines::{Input, Lines};
use crate::output::{self, note, print};
use crate::session::{self, figures};
use crate::signals::{self, Interruptible};

const HELP: &str = "\
/reset  forget the conversation
/quit   leave (also Ctrl-D)
/help   show this
Ctrl-C  stop an answer";

pub(crate) fn run(args: &ChatArgs) -> anyhow::Result<ExitCode> {
    signals::install()?;
    let backend = session::open(&args.model)?;
    let mut lines = Lines::new()?;
    let mut conversation = Conversation::new(&backend, args);
    if lines.is_interactive() {
        signals::keep_running();
        note("/help lists the commands");
    }
    loop {
        let line = match lines.next()? {
            Input::Line(line) => line,
            Input::Interrupted => {
                note("/quit leaves");
                continue;
            }
            Input::End => return Ok(ExitCode::SUCCESS),
        };
        match line.trim() {
            "" => {}
            "/quit" | "/exit" => return Ok(ExitCode::SUCCESS),
            "/help" => note(HELP),
            "/reset" => {
                conversation.reset();
                note("the conversation starts again");
            }
            command if is_command(command) => {
                note(&format!("there is no command {command}; /help lists them"));
            }
            _ => match conversation.say(&line) {
                Err(error) if lines.is_interactive() && !output::is_closed_pipe(&error) => {
                    output::report(&error);
                }
                // Where nobody types, nobody wants the next line's answer either.
                Ok(FinishReason::Cancelled) if !lines.is_interactive() => signals::exit(),
                outcome => {
                    outcome?;
                }
            },
        }
    }
}

/// A slash and a word: a path or a fraction is a message.
fn is_command(line: &str) -> bool {
    line.strip_prefix('/')
        .is_some_and(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase()))
}

struct Conversation<'a> {
    backend: &'a MlxBackend,
    options: Options,
    messages: Vec<Message>,
    /// Messages that `/reset` keeps: the system message.
    fixed: usize,
}

impl<'a> Conversation<'a> {
    fn new(backend: &'a MlxBackend, args: &ChatArgs) -> Self {
        let messages: Vec<Message> = args.system.iter().map(Message::system).collect();
        let fixed = messages.len();
        Self {
            backend,
            // Each turn begins with all turns before it.
            options: args.sampling.options().reuse_prefix(true),
            messages,
            fixed,
        }
    }

    fn reset(&mut self) {
        self.messages.truncate(self.fixed);
    }

    /// Asks and prints the answer. What fails is taken out of the conversation again.
    fn say(&mut self, line: &str) -> anyhow::Result<FinishReason> {
        let before = self.messages.len();
        self.messages.push(Message::user(line));
        let outcome = self.answer();
        match &outcome {
            Ok(answer) if !answer.text.is_empty() => {
                self.messages.push(Message::assistant(&answer.text));
            }
            _ => self.messages.truncate(before),
        }
        outcome.map(|answer| answer.finish_reason)
    }

    fn answer(&self) -> anyhow::Result<Generation> {
        let answer = Interruptible::new();
        let options = self.options.clone().cancel(answer.token());
        let stream = self.backend.stream_chat(&self.messages, &options)?;
        let outcome = follow(stream, |piece| print(&piece.text))?;
        print("\n")?;
        let generation = match outcome {
            Err(Error::Cancelled { partial }) => *partial,
            outcome => outcome?,
        };
        let reason = generation.finish_reason;
        note(&figures(&generation.metrics, reason.as_str()));
        if reason == FinishReason::Context {
            note("the context is full; /reset starts again");
        }
        Ok(generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_begins_with_a_slash_is_no_command() {
        assert!(is_command("/resett"));
        for message in ["/", "/usr/bin is what?", "/2", "1/2", "// a comment"] {
            assert!(!is_command(message), "{message}");
        }
    }
}
