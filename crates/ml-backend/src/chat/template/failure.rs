//! What stops a template.

/// Why a template stopped.
#[derive(Debug)]
pub(super) struct Failure {
    /// What was wrong, in the words of Python and Jinja2 where they have some.
    pub(super) message: String,
    /// The line of the template, from 1, once the place is known.
    pub(super) line: Option<u32>,
    /// Whether the template itself called `raise_exception`.
    pub(super) refused: bool,
}

/// The result of everything that a template can make fail.
pub(super) type Outcome<T> = Result<T, Box<Failure>>;

impl Failure {
    pub(super) fn new(message: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            message: message.into(),
            line: None,
            refused: false,
        })
    }

    /// The same failure, at a line if it has none yet.
    pub(super) fn at(mut self: Box<Self>, line: u32) -> Box<Self> {
        self.line.get_or_insert(line);
        self
    }
}

/// A failure with a message.
pub(super) fn fail<T>(message: impl Into<String>) -> Outcome<T> {
    Err(Failure::new(message))
}
