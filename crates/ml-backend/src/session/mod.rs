//! [`Session`]: a conversation that goes on.
//!
//! A chat API has no memory: each request brings all messages. Here they are kept, with what the model answered in
//! its parts, and what was asked for and not answered is taken out again, so that a conversation is always one that
//! a model can go on with. Where it is, its messages alone tell (`state.rs`): a file needs nothing else.
//!
//! - `turn` is an answer under way; `file` how a conversation lies on disk, `model` which model it was had with.

mod error;
mod file;
mod model;
mod state;
mod turn;

use std::path::Path;

use crate::chat::{Message, Role, ToolCall};
use crate::{Answer, MlxBackend, Options, Result};
pub use error::SessionError;
pub use file::SessionFile;
use model::SessionModel;
pub use turn::SessionStream;

/// A conversation with a model: its messages, the options of the next answer, and a file if it is to last.
///
/// ```
/// use ml_backend::{MlxBackend, Options, Session};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))?;
/// let backend = MlxBackend::load("assets/models/qwen3-demo")?;
/// let mut session = Session::new(&backend, Options::new().temperature(0.0));
/// assert_eq!(session.send("What is 17 + 25?")?.text, "42");
/// assert_eq!(session.messages().len(), 2);
/// # Ok(())
/// # }
/// ```
///
/// A turn is a message of the user and all that comes of it: calls of tools, their results, the answer. A turn that
/// fails is taken out again, and so is one of which nothing was said; what was said of a cancelled answer, or of one
/// whose stream was dropped, stays. Where an answer calls tools, the turn goes on with
/// [`send_tool_result`](Self::send_tool_result).
///
/// With a file ([`open`](Self::open)) the conversation is written when a message is sent and when its answer has
/// ended, each time whole and under another name that is then renamed: a program that is killed loses what was being
/// answered at the most, and the question waits for its answer in the file
/// ([`awaits_answer`](Self::awaits_answer)).
pub struct Session {
    backend: MlxBackend,
    options: Options,
    messages: Vec<Message>,
    file: Option<SessionFile>,
}

impl Session {
    /// A conversation that begins. Each answer is generated as `options` say, with
    /// [`reuse_prefix`](Options::reuse_prefix): a turn costs what is new in it.
    #[must_use]
    pub fn new(backend: &MlxBackend, options: Options) -> Self {
        Self {
            backend: backend.clone(),
            options: options.reuse_prefix(true),
            messages: Vec::new(),
            file: None,
        }
    }

    /// A conversation that goes on in the file `path` where it ended, or begins there if there is no such file. As long
    /// as it lives, no other session has that file.
    ///
    /// # Errors
    /// A file that is no session or cannot be read or written; it is left as it is.
    pub fn open(backend: &MlxBackend, options: Options, path: impl AsRef<Path>) -> Result<Self> {
        Self::with_file(backend, options, SessionFile::open(path)?)
    }

    /// [`open`](Self::open) with a file that was opened before the model was loaded.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn with_file(
        backend: &MlxBackend,
        options: Options,
        mut file: SessionFile,
    ) -> Result<Self> {
        let mut session = Self::new(backend, options);
        session.messages = file.take_messages();
        let begins = file.is_new();
        session.file = Some(file);
        if begins {
            // That it can be written shows now, and not when there is something to lose.
            session.write()?;
        }
        Ok(session)
    }

    /// A conversation as a file has it. The file is only read: what comes now is not in it.
    ///
    /// # Errors
    /// A file that is missing or no session.
    pub fn load(backend: &MlxBackend, options: Options, path: impl AsRef<Path>) -> Result<Self> {
        let messages = file::read(path.as_ref())?;
        Ok(Self::new(backend, options).with_messages(messages))
    }

    /// Writes the conversation to a file: a new one, or in place of a session that is there.
    ///
    /// # Errors
    /// A file that is no session or that another session has, and one that cannot be written.
    pub fn save(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        if self.file.as_ref().is_some_and(|file| file.is_at(path)) {
            return self.write();
        }
        let mut file = SessionFile::open(path)?;
        Ok(file.write(&SessionModel::of(&self.backend), &self.messages)?)
    }

    /// The same with other messages, such as those that a program keeps elsewhere.
    #[must_use]
    pub fn with_messages(mut self, messages: Vec<Message>) -> Self {
        self.messages = messages;
        self
    }

    /// Has the conversation begin with these instructions, in place of those that it begins with.
    pub fn set_system(&mut self, text: impl Into<String>) {
        let is_system = |message: &Message| message.role == Role::System;
        let message = Message::system(text);
        match self.messages.first_mut() {
            Some(first) if is_system(first) => *first = message,
            _ => self.messages.insert(0, message),
        }
    }

    /// The conversation so far: what the next answer sees.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// How answers are generated.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Changes how the next answers are generated. A [`CancelToken`](crate::CancelToken) that was used cancels them all:
    /// put another one in.
    pub fn options_mut(&mut self) -> &mut Options {
        &mut self.options
    }

    /// The model that answers.
    #[must_use]
    pub fn backend(&self) -> &MlxBackend {
        &self.backend
    }

    /// The model that the file names, in words, where it is another one than that which goes on. Any model can go on
    /// with any conversation.
    #[must_use]
    pub fn other_model(&self) -> Option<String> {
        let before = self.file.as_ref()?.model()?;
        (*before != SessionModel::of(&self.backend)).then(|| before.to_string())
    }

    /// The calls of the last answer that wait for their results, in their order.
    #[must_use]
    pub fn waiting(&self) -> Vec<&ToolCall> {
        state::waiting(&self.messages)
    }

    /// Whether the last message is one to be answered: in a file of a program that was killed while it was.
    #[must_use]
    pub fn awaits_answer(&self) -> bool {
        state::awaits_answer(&self.messages)
    }

    /// Says `text` to the model and waits for its answer.
    ///
    /// # Errors
    /// As [`respond`](MlxBackend::respond); calls that wait for results, a message that waits for its answer, and a file
    /// that cannot be written. If that shows behind the answer, it is in [`messages`](Self::messages) all the same.
    pub fn send(&mut self, text: impl Into<String>) -> Result<Answer> {
        self.stream(text)?.wait()
    }

    /// [`send`](Self::send) as an iterator.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn stream(&mut self, text: impl Into<String>) -> Result<SessionStream<'_>> {
        if self.awaits_answer() {
            return Err(SessionError::Unanswered.into());
        }
        let waiting = self.waiting();
        if !waiting.is_empty() {
            let calls: Vec<_> = waiting.iter().map(|call| call.name.as_str()).collect();
            let calls = calls.join(", ");
            return Err(SessionError::CallsWait { calls }.into());
        }
        self.messages.push(Message::user(text));
        self.stream_answer()
    }

    /// Tells the model what a tool gave that `call` asked for. Once no call [waits](Self::waiting), it answers; until
    /// then there is `None`.
    ///
    /// # Errors
    /// As [`send`](Self::send), and a call that waits for nothing. After a failure all calls of that answer wait again.
    pub fn send_tool_result(
        &mut self,
        call: &ToolCall,
        result: impl Into<String>,
    ) -> Result<Option<Answer>> {
        let stream = self.stream_tool_result(call, result)?;
        stream.map(SessionStream::wait).transpose()
    }

    /// [`send_tool_result`](Self::send_tool_result) as an iterator.
    ///
    /// # Errors
    /// As [`send_tool_result`](Self::send_tool_result).
    pub fn stream_tool_result(
        &mut self,
        call: &ToolCall,
        result: impl Into<String>,
    ) -> Result<Option<SessionStream<'_>>> {
        if !self.waiting().contains(&call) {
            let name = call.name.clone();
            return Err(SessionError::NoSuchCall { name }.into());
        }
        self.messages.push(Message::tool(call, result));
        match self.waiting().is_empty() {
            true => self.stream_answer().map(Some),
            false => self.write().map(|()| None),
        }
    }

    /// Waits for the answer to a message that [has none](Self::awaits_answer).
    ///
    /// # Errors
    /// As [`send`](Self::send), and when nothing is to be answered.
    pub fn answer(&mut self) -> Result<Answer> {
        self.stream_answer()?.wait()
    }

    /// [`answer`](Self::answer) as an iterator.
    ///
    /// # Errors
    /// As [`answer`](Self::answer).
    pub fn stream_answer(&mut self) -> Result<SessionStream<'_>> {
        if !self.awaits_answer() {
            return Err(SessionError::NothingToAnswer.into());
        }
        let started = self.write();
        let started =
            started.and_then(|()| self.backend.stream_answer(&self.messages, &self.options));
        match started {
            Ok(stream) => Ok(SessionStream::new(self, stream)),
            Err(error) => {
                // What failed first is what is told.
                let _ = self.settle(None);
                Err(error)
            }
        }
    }

    /// Takes the last turn back: the last message of the user and all behind it, which it gives. There is none in a
    /// conversation that has not begun.
    ///
    /// # Errors
    /// A file that cannot be written; the turn is out of [`messages`](Self::messages) then, and still in the file.
    pub fn take_back(&mut self) -> Result<Vec<Message>> {
        let turn = self.messages.split_off(state::last_turn(&self.messages));
        self.write()?;
        Ok(turn)
    }

    /// Forgets all but the instructions at the beginning.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn reset(&mut self) -> Result<()> {
        self.messages.truncate(state::instructions(&self.messages));
        self.write()
    }

    /// What was sent has its answer, or none and goes.
    fn settle(&mut self, answer: Option<&Answer>) -> Result<()> {
        match answer {
            Some(answer) => self.messages.push(answer.to_message()),
            None => self.messages.truncate(state::answered(&self.messages)),
        }
        self.write()
    }

    fn write(&mut self) -> Result<()> {
        if let Some(file) = &mut self.file {
            file.write(&SessionModel::of(&self.backend), &self.messages)?;
        }
        Ok(())
    }
}
