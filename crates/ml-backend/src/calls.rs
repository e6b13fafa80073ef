//! Answers that have to be calls of tools, or calls or of a form, and answers that end with the first call.
//!
//! What has to be is a grammar of the model's own syntax; a thought before it is free. What may be one call at the
//! most is followed by the parser that splits answers.

use std::sync::Arc;

use models::tokenizer::{StreamDecoder, Tokenizer};
use serde_json::Value;

use crate::chat::answer::forced::{Calls, Wanted};
use crate::chat::{AnswerEvent, AnswerParser, ChatError, Syntax};
use crate::handle::{ChatPrompt, MlxBackend};
use crate::request::Request;
use crate::sample::{Accepted, Constrain, Constraint};
use crate::structure::{Before, Form};
use crate::{Error, Options, Result};

impl MlxBackend {
    /// Has a chat's answer be the calls that `options` ask for.
    ///
    /// # Errors
    /// Where it is not known how the model writes calls, and where a tool's schema cannot be held to.
    pub(crate) fn hold_to_calls(
        &self,
        request: &mut Request,
        options: &Options,
        chat: &ChatPrompt,
    ) -> Result<()> {
        let one = options.parallel_tool_calls == Some(false);
        let tools = options.tools_to_call();
        let otherwise = options.form_without_call();
        let called = options
            .forced_tools()
            .or_else(|| otherwise.is_some().then(|| tools.clone()));
        let Some(called) = called else {
            if one && !tools.is_empty() && chat.syntax.calls.is_some() {
                let then = request.sampling.constraint.take();
                let tokenizer = self.tokenizer()?.clone();
                request.sampling.constraint = Some(Arc::new(OneCall {
                    syntax: chat.syntax,
                    opened: chat.opened,
                    tools,
                    tokenizer,
                    then,
                }));
            }
            return Ok(());
        };
        let tokenizer = self.tokenizer()?;
        let refuse = |problem| Error::Tools { problem };
        let Some(syntax) = chat.syntax.calls else {
            let problem = "it is not known how this model writes calls, so none can be asked for; leave the choice \
                           of tools to it";
            return Err(refuse(problem.to_owned()));
        };
        let template = tokenizer.chat_template().map_err(ChatError::from)?;
        let wanted = Wanted {
            syntax,
            template: template.map_or("", |template| template.source.as_str()),
            tools: &called,
            several: !one,
            otherwise: otherwise.as_ref(),
        };
        let form = Form::Calls(Calls::new(&wanted, tokenizer).map_err(refuse)?);
        let before = match &options.structure_after {
            Some(marker) if chat.text.trim_end().ends_with(marker) => Before::Nothing,
            Some(marker) => Before::Text(marker.clone()),
            None => self.thought_before(options, chat, tokenizer),
        };
        let bound = self.bind_form(&form, before, tokenizer);
        let bound = bound.map_err(|error| match error {
            Error::Structure { problem, .. } => refuse(problem),
            other => other,
        })?;
        request.sampling.constraint = Some(Arc::new(bound));
        Ok(())
    }

    /// The thought that may come before a call.
    fn thought_before(
        &self,
        options: &Options,
        chat: &ChatPrompt,
        tokenizer: &Tokenizer,
    ) -> Before {
        let Some(reasoning) = chat.syntax.reasoning else {
            return Before::Nothing;
        };
        let over = chat.text.trim_end().ends_with(reasoning.close());
        let open = tokenizer.token_id(reasoning.opener());
        let open = match (chat.opened, open) {
            (true, _) => None,
            (false, Some(open)) if !over && options.enable_thinking != Some(false) => Some(open),
            _ => return Before::Nothing,
        };
        let mut ends = self.ends(tokenizer);
        let more = chat.syntax.ends().iter();
        ends.extend(more.filter_map(|token| tokenizer.token_id(token)));
        Before::Thought {
            open,
            close: reasoning.close().to_owned(),
            ends,
        }
    }
}

/// Ends an answer with its first call.
#[derive(Debug)]
struct OneCall {
    syntax: Syntax,
    /// Whether the prompt ends inside of a thought.
    opened: bool,
    tools: Vec<Value>,
    tokenizer: Tokenizer,
    /// What else the answer is held to.
    then: Option<Arc<dyn Constrain>>,
}

impl Constrain for OneCall {
    fn start(&self) -> Result<Box<dyn Constraint>> {
        let kept = self.syntax.special_tokens(&self.tokenizer);
        Ok(Box::new(UntilCall {
            decoder: self.tokenizer.stream(true).keeping(&kept),
            parser: AnswerParser::new(self.syntax, &self.tools, self.opened, 0),
            then: match &self.then {
                Some(then) => Some(then.start()?),
                None => None,
            },
        }))
    }
}

/// One answer.
struct UntilCall {
    decoder: StreamDecoder,
    parser: AnswerParser,
    then: Option<Box<dyn Constraint>>,
}

impl Constraint for UntilCall {
    fn mask(&mut self) -> Result<Option<&[u32]>> {
        match &mut self.then {
            Some(then) => then.mask(),
            None => Ok(None),
        }
    }

    fn accept(&mut self, id: u32) -> Result<Accepted> {
        let text = self.decoder.push(id)?.unwrap_or_default();
        let is_end = |event: &AnswerEvent| matches!(event, AnswerEvent::ToolCallEnd { .. });
        let called = self.parser.push(&text).iter().any(is_end);
        let accepted = match &mut self.then {
            Some(then) => then.accept(id)?,
            None => Accepted::GoesOn,
        };
        match called {
            true => Ok(Accepted::Ends),
            false => Ok(accepted),
        }
    }
}
