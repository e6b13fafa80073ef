//! A model that thinks for too long is told to answer: the marker that ends a thought is drawn for it.
//!
//! It is a constraint, so it holds in a batch of others and on every device. The same parser that splits answers says
//! whether a token belongs to a thought.

use std::collections::VecDeque;
use std::sync::Arc;

use models::tokenizer::{StreamDecoder, Tokenizer};

use crate::Result;
use crate::chat::{AnswerParser, Syntax};
use crate::sample::{Accepted, Constrain, Constraint};

/// How many tokens of an answer may be reasoning.
#[derive(Debug)]
pub(crate) struct Budget {
    tokens: usize,
    /// What ends a thought.
    closing: Vec<u32>,
    syntax: Syntax,
    /// Whether the prompt ends inside of a thought.
    opened: bool,
    tokenizer: Tokenizer,
    /// What else the answer is held to.
    then: Option<Arc<dyn Constrain>>,
}

impl Budget {
    /// A budget, and what else the answer is held to, which may be `calls`; only that where the model writes no thoughts that are known.
    pub(crate) fn around(
        tokens: usize,
        (syntax, opened): (Syntax, bool),
        calls: bool,
        tokenizer: &Tokenizer,
        then: Option<Arc<dyn Constrain>>,
    ) -> Result<Option<Arc<dyn Constrain>>> {
        let Some(reasoning) = syntax.reasoning else {
            return Ok(then);
        };
        Ok(Some(Arc::new(Self {
            tokens,
            closing: tokenizer.encode(reasoning.closing(calls), false)?,
            syntax,
            opened,
            tokenizer: tokenizer.clone(),
            then,
        })))
    }
}

impl Constrain for Budget {
    fn start(&self) -> Result<Box<dyn Constraint>> {
        let kept = self.syntax.special_tokens(&self.tokenizer);
        let mut watch = Watch {
            left: self.tokens,
            closing: self.closing.clone(),
            forced: VecDeque::new(),
            words: Vec::new(),
            decoder: self.tokenizer.stream(true).keeping(&kept),
            parser: AnswerParser::new(self.syntax, &[], self.opened, 0),
            then: match &self.then {
                Some(then) => Some(then.start()?),
                None => None,
            },
        };
        watch.look();
        Ok(Box::new(watch))
    }
}

/// One answer.
struct Watch {
    /// Tokens of thought that may still come.
    left: usize,
    closing: Vec<u32>,
    /// Tokens that have to come now.
    forced: VecDeque<u32>,
    words: Vec<u32>,
    decoder: StreamDecoder,
    parser: AnswerParser,
    then: Option<Box<dyn Constraint>>,
}

impl Watch {
    /// Ends a thought that has no tokens left.
    fn look(&mut self) {
        if self.left == 0 && self.forced.is_empty() && self.parser.in_reasoning() {
            self.forced.extend(&self.closing);
        }
    }
}

impl Constraint for Watch {
    fn mask(&mut self) -> Result<Option<&[u32]>> {
        let others = match &mut self.then {
            Some(then) => then.mask()?,
            None => None,
        };
        let Some(&id) = self.forced.front() else {
            return Ok(others);
        };
        let word = id as usize / 32;
        self.words.clear();
        self.words.resize(word + 1, 0);
        self.words[word] = 1 << (id % 32);
        Ok(Some(&self.words))
    }

    fn accept(&mut self, id: u32) -> Result<Accepted> {
        let was_forced = self.forced.pop_front().is_some();
        let thinks = self.parser.in_reasoning();
        let text = self.decoder.push(id)?.unwrap_or_default();
        self.parser.push(&text);
        if thinks && !was_forced {
            self.left = self.left.saturating_sub(1);
        }
        self.look();
        match &mut self.then {
            Some(then) => then.accept(id),
            None => Ok(Accepted::GoesOn),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::chat::ReasoningSyntax;

    fn tokenizer() -> Tokenizer {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        Tokenizer::from_dir(&fixtures.join("tokenizers/bytelevel")).unwrap()
    }

    /// The answer of a model that says `script`, as far as it is let.
    fn said(tokens: usize, opened: bool, script: &str) -> String {
        let tokenizer = tokenizer();
        let syntax = Syntax {
            calls: None,
            reasoning: Some(ReasoningSyntax::Think),
        };
        let budget = Budget::around(tokens, (syntax, opened), false, &tokenizer, None);
        let mut watch = budget.unwrap().unwrap().start().unwrap();
        let mut all = Vec::new();
        for id in tokenizer.encode(script, false).unwrap() {
            // What is forced comes before what it would say.
            while let Some(words) = watch.mask().unwrap() {
                let word = words.len() - 1;
                assert_eq!(words.iter().map(|word| word.count_ones()).sum::<u32>(), 1);
                let forced = word as u32 * 32 + words[word].trailing_zeros();
                all.push(forced);
                assert_eq!(watch.accept(forced).unwrap(), Accepted::GoesOn);
            }
            all.push(id);
            watch.accept(id).unwrap();
        }
        tokenizer.decode(&all, false).unwrap()
    }

    #[test]
    fn a_thought_ends_when_its_tokens_are_used_up_and_not_before() {
        let ids = tokenizer().encode("zxzxzx", false).unwrap().len();
        assert!(ids > 3, "the text is of several tokens");
        assert_eq!(said(0, true, "42"), "\n</think>\n\n42");
        assert_eq!(said(ids, true, "zxzxzx42"), "zxzxzx\n</think>\n\n42");
        // One that ends by itself, and a text with no thought.
        assert_eq!(said(100, true, "zx</think>42"), "zx</think>42");
        assert_eq!(said(0, false, "42 is the answer"), "42 is the answer");
        let thought = said(1, false, "<think>zxzxzx");
        assert!(
            thought.starts_with("<think>") && thought.contains("\n</think>\n\n"),
            "{thought}"
        );
        // There is one thought, and what follows it is free.
        assert_eq!(said(0, true, "<think>zx").matches("</think>").count(), 2);
    }
}
