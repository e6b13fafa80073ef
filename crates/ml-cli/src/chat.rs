//! `ml chat`: a conversation, line by line.
//!
//! Ctrl-C stops an answer, and what was said of it stays in the conversation, as the person at the
//! terminal saw it. A failure ends the program only where nobody is there to read it.

use std::process::ExitCode;

use ml_backend::{Error, FinishReason, Message, Session, SessionFile, SessionStream, ToolCall};

use crate::args::{ChatArgs, Reasoning};
use crate::lines::{Input, Lines};
use crate::output::{self, note};
use crate::resume;
use crate::session::{self, figures};
use crate::shown::Shown;
use crate::signals::{self, Interruptible};

const HELP: &str = "\
/undo   take the last question and its answer back
/reset  forget the conversation
/quit   leave (also Ctrl-D)
/help   show this
Ctrl-C  stop an answer";

pub(crate) fn run(args: &ChatArgs) -> anyhow::Result<ExitCode> {
    signals::install()?;
    // A file that cannot be used is no reason to load a model.
    let file = args.session.as_ref().map(SessionFile::open).transpose()?;
    let backend = session::open_with(&args.model, &args.prefixes)?;
    let mut lines = Lines::new()?;
    let options = args.sampling.options();
    let mut session = match file {
        Some(file) => Session::with_file(&backend, options, file)?,
        None => Session::new(&backend, options),
    };
    if let Some(path) = &args.session {
        resume::tell(&session, path, lines.is_interactive());
    }
    if let Some(system) = &args.system {
        session.set_system(system);
    }
    let mut conversation = Conversation {
        session,
        reasoning: args.reasoning,
    };
    if lines.is_interactive() {
        signals::keep_running();
        note("/help lists the commands");
    }
    if conversation.session.awaits_answer() {
        note("its last question has no answer yet; here it is");
        after(conversation.answer(), &lines)?;
    }
    conversation.ask_for_result();
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
            "/undo" => match conversation.session.take_back() {
                Ok(turn) => note(&taken_back(&turn)),
                Err(error) => failed(error.into(), &lines)?,
            },
            "/reset" => match conversation.session.reset() {
                Ok(()) => note("the conversation starts again"),
                Err(error) => failed(error.into(), &lines)?,
            },
            command if is_command(command) => {
                note(&format!("there is no command {command}; /help lists them"));
            }
            _ => after(conversation.say(&line), &lines)?,
        }
    }
}

/// What becomes of the program behind an answer.
fn after(outcome: anyhow::Result<FinishReason>, lines: &Lines) -> anyhow::Result<()> {
    match outcome {
        Err(error) => failed(error, lines),
        // Where nobody types, nobody wants the next line's answer either.
        Ok(FinishReason::Cancelled) if !lines.is_interactive() => signals::exit(),
        Ok(_) => Ok(()),
    }
}

/// A person reads what failed and goes on.
fn failed(error: anyhow::Error, lines: &Lines) -> anyhow::Result<()> {
    if !lines.is_interactive() || output::is_closed_pipe(&error) {
        return Err(error);
    }
    output::report(&error);
    Ok(())
}

fn taken_back(turn: &[Message]) -> String {
    match turn.first() {
        Some(question) => format!("taken back: {}", question.content),
        None => "there is nothing to take back".to_owned(),
    }
}

/// A slash and a word: a path or a fraction is a message.
fn is_command(line: &str) -> bool {
    line.strip_prefix('/')
        .is_some_and(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase()))
}

struct Conversation {
    session: Session,
    reasoning: Option<Reasoning>,
}

impl Conversation {
    /// Asks and prints the answer, or takes the line as what a tool gave.
    fn say(&mut self, line: &str) -> anyhow::Result<FinishReason> {
        let _interruptible = self.interruptible();
        let call: Option<ToolCall> = self.session.waiting().first().copied().cloned();
        let outcome = self.take(call, line);
        self.ask_for_result();
        outcome
    }

    fn take(&mut self, call: Option<ToolCall>, line: &str) -> anyhow::Result<FinishReason> {
        let stream = match call {
            Some(call) => self.session.stream_tool_result(&call, line)?,
            None => Some(self.session.stream(line)?),
        };
        match stream {
            Some(stream) => show(stream, self.reasoning),
            // Others wait too.
            None => Ok(FinishReason::ToolCalls),
        }
    }

    /// Prints the answer to a question that is there.
    fn answer(&mut self) -> anyhow::Result<FinishReason> {
        let _interruptible = self.interruptible();
        show(self.session.stream_answer()?, self.reasoning)
    }

    /// While it lives, Ctrl-C stops the next answer.
    fn interruptible(&mut self) -> Interruptible {
        let interruptible = Interruptible::new();
        self.session.options_mut().cancel = interruptible.token();
        interruptible
    }

    fn ask_for_result(&self) {
        if let Some(call) = self.session.waiting().first() {
            note(&format!("the next line is what {} gives", call.name));
        }
    }
}

/// Prints an answer as it comes.
fn show(
    mut stream: SessionStream<'_>,
    reasoning: Option<Reasoning>,
) -> anyhow::Result<FinishReason> {
    let mut shown = Shown::new(reasoning);
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
    let answer = stream.answer();
    let reason = answer.finish_reason;
    note(&figures(&answer.metrics, reason.as_str()));
    if reason == FinishReason::Context {
        note("the context is full; /undo takes a question back, /reset starts again");
    }
    Ok(reason)
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
