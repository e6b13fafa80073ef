//! A structure as the constraint of a request: from its first token, or from the end of its reasoning on.
//!
//! When a token has come the next mask is begun on another thread, and it is waited for when the next token is
//! drawn: the model's pass lies between.

use std::fmt::{Debug, Formatter};
use std::sync::Arc;

use super::Matcher;
use super::grammar::Grammar;
use super::worker::Coming;
use crate::sample::{Accepted, Constrain, Constraint};
use crate::scheduler::catching;
use crate::{Error, Result};

/// Line breaks between the end of the reasoning and the answer.
const BREAKS: usize = 2;

/// What may come before that which has the form.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Before {
    #[default]
    Nothing,
    /// Anything, up to this text.
    Text(String),
    /// A thought, in which the answer cannot end.
    Thought {
        /// The token that begins it; `None` where the prompt did.
        open: Option<u32>,
        /// The text that ends it.
        close: String,
        /// Ids that end an answer.
        ends: Vec<u32>,
    },
}

/// A compiled structure, for any number of answers.
pub(crate) struct Bound {
    grammar: Arc<Grammar>,
    before: Before,
}

impl Bound {
    pub(super) fn new(grammar: Arc<Grammar>, before: Before) -> Self {
        Self { grammar, before }
    }
}

impl Debug for Bound {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound")
            .field("kind", &self.grammar.kind)
            .field("before", &self.before)
            .finish_non_exhaustive()
    }
}

impl Constrain for Bound {
    fn start(&self) -> Result<Box<dyn Constraint>> {
        let mut following = Following {
            matcher: Some(Matcher::new(Arc::clone(&self.grammar))),
            grammar: Arc::clone(&self.grammar),
            coming: None,
            reasoning: None,
            opener: None,
            free: None,
            breaks: 0,
            mask: Vec::new(),
        };
        match &self.before {
            Before::Nothing => {}
            Before::Text(marker) => following.reasoning = Some(Reasoning::until(marker)),
            Before::Thought { open, close, ends } => {
                let thought = Reasoning::until(close);
                following.free = Some(self.grammar.tokens.all_but(ends));
                match open {
                    Some(open) => following.opener = Some((*open, thought)),
                    None => following.reasoning = Some(thought),
                }
            }
        }
        if following.reasoning.is_none() {
            following.begin();
        }
        Ok(Box::new(following))
    }
}

/// One answer.
struct Following {
    grammar: Arc<Grammar>,
    /// Unless a thread has it.
    matcher: Option<Matcher>,
    coming: Option<Coming<Result<Matcher>>>,
    /// As long as the answer has not begun.
    reasoning: Option<Reasoning>,
    /// The token with which one may begin at the answer's start.
    opener: Option<(u32, Reasoning)>,
    /// What may be drawn in it; `None` is anything.
    free: Option<Vec<u32>>,
    /// Line breaks that may still come before the answer begins.
    breaks: usize,
    /// With them.
    mask: Vec<u32>,
}

/// What comes before the answer.
struct Reasoning {
    marker: String,
    /// The end of it, where the marker may have begun.
    end: Vec<u8>,
}

impl Reasoning {
    fn until(marker: &str) -> Self {
        Self {
            marker: marker.to_owned(),
            end: Vec::new(),
        }
    }

    /// What follows the marker, once it has come.
    fn push(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let marker = self.marker.as_bytes();
        self.end.extend_from_slice(bytes);
        let at = self
            .end
            .windows(marker.len())
            .position(|part| part == marker);
        if let Some(at) = at {
            return Some(self.end.split_off(at + marker.len()));
        }
        let kept = self.end.len().min(marker.len() - 1);
        self.end.drain(..self.end.len() - kept);
        None
    }
}

impl Following {
    /// Has the next mask made.
    fn begin(&mut self) {
        if let Some(mut matcher) = self.matcher.take() {
            let work = move || {
                catching(|| {
                    matcher.make_mask()?;
                    Ok(matcher)
                })
            };
            self.coming = Some(Coming::of(work));
        }
    }

    /// Waits for what was begun.
    fn matcher(&mut self) -> Result<&mut Matcher> {
        if let Some(coming) = self.coming.take() {
            self.matcher = Some(coming.wait().unwrap_or(Err(Error::EngineEnded))?);
        }
        self.matcher.as_mut().ok_or(Error::EngineEnded)
    }

    /// What came with the end of the reasoning in one token.
    fn rest(&mut self, rest: &[u8]) -> Result<Accepted> {
        let breaks = rest.iter().take_while(|&&byte| byte == b'\n').count();
        self.breaks = BREAKS.saturating_sub(breaks);
        let tokens = Arc::clone(&self.grammar.tokens);
        let mut ends = false;
        for id in tokens.spell(&rest[breaks..]) {
            self.breaks = 0;
            ends = self.matcher()?.accept(id)?;
        }
        if ends {
            return Ok(Accepted::Ends);
        }
        self.begin();
        Ok(Accepted::GoesOn)
    }
}

impl Constraint for Following {
    fn mask(&mut self) -> Result<Option<&[u32]>> {
        if self.reasoning.is_some() {
            return Ok(self.free.as_deref());
        }
        let breaks = self.breaks;
        self.matcher()?;
        let Some(matcher) = &self.matcher else {
            return Ok(None);
        };
        if breaks == 0 && self.opener.is_none() {
            return Ok(Some(matcher.allowed()));
        }
        self.mask.clear();
        self.mask.extend_from_slice(matcher.allowed());
        if let Some((id, _)) = &self.opener
            && let Some(word) = self.mask.get_mut(*id as usize / 32)
        {
            *word |= 1 << (id % 32);
        }
        let tokens = &self.grammar.tokens;
        for &id in &tokens.breaks {
            if tokens.bytes(id).len() <= breaks {
                self.mask[id as usize / 32] |= 1 << (id % 32);
            }
        }
        Ok(Some(&self.mask))
    }

    fn accept(&mut self, id: u32) -> Result<Accepted> {
        let tokens = Arc::clone(&self.grammar.tokens);
        if let Some(reasoning) = &mut self.reasoning {
            return match reasoning.push(tokens.written(id)) {
                None => Ok(Accepted::GoesOn),
                Some(rest) => {
                    self.reasoning = None;
                    self.rest(&rest)
                }
            };
        }
        if let Some((open, thought)) = self.opener.take()
            && open == id
        {
            self.reasoning = Some(thought);
            return Ok(Accepted::GoesOn);
        }
        let breaks = self.breaks;
        let matcher = self.matcher()?;
        let length = tokens.bytes(id).len();
        if breaks >= length && tokens.breaks.contains(&id) && !matcher.allows(id) {
            self.breaks = breaks - length;
            return Ok(Accepted::GoesOn);
        }
        let ends = matcher.accept(id)?;
        self.breaks = 0;
        if ends {
            return Ok(Accepted::Ends);
        }
        self.begin();
        Ok(Accepted::GoesOn)
    }
}
