//! `ml chat`: a conversation, line by line.
//!
//! Ctrl-C stops an answer, and what was said of it stays in the conversation, as the person at the
//! terminal saw it. A failure ends the program only where nobody is there to read it.

use std::collections::VecDeque;
use std::process::ExitCode;

use ml_backend::{Answer, Error, FinishReason, Message, MlxBackend, Options, Role, ToolCall};

use crate::args::{ChatArgs, Reasoning};
use crate::lines::{Input, Lines};
use crate::output::{self, note};
use crate::session::{self, figures};
use crate::shown::Shown;
use crate::signals::{self, Interruptible};

const HELP: &str = "\
/reset  forget the conversation
/quit   leave (also Ctrl-D)
/help   show this
Ctrl-C  stop an answer";

pub(crate) fn run(args: &ChatArgs) -> anyhow::Result<ExitCode> {
    signals::install()?;
    let backend = session::open_with(&args.model, &args.prefixes)?;
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
    /// Calls of the last answer that nobody has told the results of.
    waiting: VecDeque<ToolCall>,
    reasoning: Option<Reasoning>,
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
            waiting: VecDeque::new(),
            reasoning: args.reasoning,
        }
    }

    fn reset(&mut self) {
        self.messages.truncate(self.fixed);
        self.waiting.clear();
    }

    /// Asks and prints the answer, or takes the line as what a tool gave. What fails is taken out of the
    /// conversation again.
    fn say(&mut self, line: &str) -> anyhow::Result<FinishReason> {
        self.messages.push(match self.waiting.pop_front() {
            Some(call) => Message::tool(&call, line),
            None => Message::user(line),
        });
        if let Some(call) = self.waiting.front() {
            ask_for(call);
            return Ok(FinishReason::ToolCalls);
        }
        let outcome = self.answer();
        match &outcome {
            Ok(answer) if !answer.text.is_empty() || !answer.tool_calls.is_empty() => {
                self.messages.push(answer.to_message());
            }
            // The last answer stays, and its calls wait again.
            _ => {
                let whole = self
                    .messages
                    .iter()
                    .rposition(|it| it.role == Role::Assistant);
                let whole = whole.map_or(self.fixed, |last| last + 1);
                self.messages.truncate(whole);
            }
        }
        let last = self.messages.last().map(|last| last.tool_calls.clone());
        self.waiting = last.unwrap_or_default().into();
        if let Some(call) = self.waiting.front() {
            ask_for(call);
        }
        outcome.map(|answer| answer.finish_reason)
    }

    fn answer(&self) -> anyhow::Result<Answer> {
        let interruptible = Interruptible::new();
        let options = self.options.clone().cancel(interruptible.token());
        let mut stream = self.backend.stream_answer(&self.messages, &options)?;
        let mut shown = Shown::new(self.reasoning);
        let mut failure = None;
        for piece in &mut stream {
            match piece {
                Ok(piece) => piece
                    .events
                    .iter()
                    .try_for_each(|event| shown.show(event))?,
                Err(Error::Cancelled { .. }) => {}
                Err(error) => failure = Some(error),
            }
        }
        shown.finish()?;
        if let Some(error) = failure {
            return Err(error.into());
        }
        let answer = stream.answer().clone();
        let reason = answer.finish_reason;
        note(&figures(&answer.metrics, reason.as_str()));
        if reason == FinishReason::Context {
            note("the context is full; /reset starts again");
        }
        Ok(answer)
    }
}

fn ask_for(call: &ToolCall) {
    note(&format!("the next line is what {} gives", call.name));
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
