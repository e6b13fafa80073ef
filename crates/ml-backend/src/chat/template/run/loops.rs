//! Loops, and what `loop` says about them.

use super::super::failure::{Outcome, fail};
use super::super::syntax::ast::For;
use super::super::value::{Cursor, Kind, Value, equal};
use super::Run;
use super::arguments::Args;
use super::statements::Flow;

/// A loop that runs. Items are taken one by one, since what `if` lets through may depend on what
/// the body did before.
pub(super) struct LoopState<'t> {
    of: &'t For,
    over: Value,
    items: Cursor,
    /// The scope around the loop.
    scope: usize,
    /// What comes next, if somebody had to know: `None` in it is the end.
    ahead: Option<Option<Value>>,
    before: Option<Value>,
    current: Option<Value>,
    /// From 0.
    index: usize,
    /// How many loops of the same recursion are around it.
    depth: usize,
    length: Option<usize>,
    /// What `changed` saw last.
    seen: Option<Vec<Value>>,
}

impl<'t> Run<'t> {
    pub(super) fn for_loop(&mut self, of: &'t For, over: &Value, depth: usize) -> Outcome<Flow> {
        let number = self.loops.len();
        let scope = self.current_scope();
        let items = Cursor::new(over)?;
        self.loops.push(LoopState {
            of,
            over: over.clone(),
            items,
            scope,
            ahead: None,
            before: None,
            current: None,
            index: 0,
            depth,
            length: None,
            seen: None,
        });
        let result = self.turns(of, number, scope);
        self.loops.truncate(number);
        result
    }

    fn turns(&mut self, of: &'t For, number: usize, scope: usize) -> Outcome<Flow> {
        let mut first = true;
        while let Some(item) = self.take_item(number)? {
            let state = &mut self.loops[number];
            state.index += usize::from(!first);
            state.before = state.current.replace(item.clone());
            first = false;
            let flow = self.scoped(scope, |run| {
                run.assign(&of.target, item)?;
                if let Some(symbol) = run.loop_symbol {
                    run.define(symbol, Value::Object(Kind::Loop, number))?;
                }
                run.statements(&of.body)
            })?;
            if flow == Flow::Break {
                return Ok(Flow::Next);
            }
        }
        if first {
            return self.scoped(scope, |run| run.statements(&of.otherwise));
        }
        Ok(Flow::Next)
    }

    /// The next item that the loop's `if` lets through.
    fn take_item(&mut self, number: usize) -> Outcome<Option<Value>> {
        if let Some(ahead) = self.loops[number].ahead.take() {
            return Ok(ahead);
        }
        let (of, scope) = (self.loops[number].of, self.loops[number].scope);
        while let Some(item) = self.loops[number].items.next()? {
            let Some(test) = &of.only_if else {
                return Ok(Some(item));
            };
            let passes = self.scoped(scope, |run| {
                run.assign(&of.target, item.clone())?;
                Ok(run.eval(test)?.truth())
            })?;
            if passes {
                return Ok(Some(item));
            }
        }
        Ok(None)
    }

    fn look_ahead(&mut self, number: usize) -> Outcome<Option<Value>> {
        if self.loops[number].ahead.is_none() {
            let next = self.take_item(number)?;
            self.loops[number].ahead = Some(next);
        }
        Ok(self.loops[number].ahead.clone().flatten())
    }

    fn loop_length(&mut self, number: usize) -> Outcome<usize> {
        if let Some(length) = self.loops[number].length {
            return Ok(length);
        }
        let state = &self.loops[number];
        let known = match state.of.only_if {
            None => state.over.len()?,
            Some(_) => None,
        };
        let length = match known {
            Some(length) => length,
            None => {
                // All that is left has to be seen.
                let mut rest = Vec::new();
                while let Some(item) = self.take_item(number)? {
                    rest.push(item);
                }
                let state = &mut self.loops[number];
                let length = state.index + 1 + rest.len();
                state.items = Cursor::new(&Value::iter(rest)?)?;
                state.over = Value::None;
                length
            }
        };
        self.loops[number].length = Some(length);
        Ok(length)
    }

    /// An attribute of `loop`.
    pub(super) fn loop_attribute(&mut self, number: usize, name: &str) -> Outcome<Option<Value>> {
        let Some(state) = self.loops.get(number) else {
            return fail("the loop is over");
        };
        let index = state.index;
        Ok(Some(match name {
            "index" => Value::size(index + 1),
            "index0" => Value::size(index),
            "first" => Value::Bool(index == 0),
            "depth" => Value::size(state.depth + 1),
            "depth0" => Value::size(state.depth),
            "previtem" => match &state.before {
                Some(before) => before.clone(),
                None => Value::undefined("there is no previous item"),
            },
            "last" => Value::Bool(self.look_ahead(number)?.is_none()),
            "nextitem" => match self.look_ahead(number)? {
                Some(next) => next,
                None => Value::undefined("there is no next item"),
            },
            "length" => Value::size(self.loop_length(number)?),
            "revindex" => Value::size(self.loop_length(number)?.saturating_sub(index)),
            "revindex0" => Value::size(self.loop_length(number)?.saturating_sub(index + 1)),
            "cycle" => Value::method(Value::Object(Kind::Loop, number), "cycle")?,
            "changed" => Value::method(Value::Object(Kind::Loop, number), "changed")?,
            _ => return Ok(None),
        }))
    }

    /// `loop.cycle(...)` and `loop.changed(...)`.
    pub(super) fn loop_method(&mut self, number: usize, name: &str, args: Args) -> Outcome<Value> {
        let Some(state) = self.loops.get_mut(number) else {
            return fail("the loop is over");
        };
        if !args.named.is_empty() {
            return fail(format!("{name}() takes no keyword arguments"));
        }
        let values = args.positional;
        if name == "cycle" {
            let count = values.len();
            if count == 0 {
                return fail("no items for cycling given");
            }
            return Ok(values[state.index % count].clone());
        }
        let same = match &state.seen {
            Some(seen) => equal(&Value::tuple(seen.clone())?, &Value::tuple(values.clone())?)?,
            None => false,
        };
        state.seen = Some(values);
        Ok(Value::Bool(!same))
    }

    /// `loop(items)` in a recursive loop: runs its body on other items, and gives their text.
    pub(super) fn recurse(&mut self, number: usize, args: Args) -> Outcome<Value> {
        let over = args.one("loop")?;
        let Some(state) = self.loops.get(number) else {
            return fail("the loop is over");
        };
        let (of, depth, scope) = (state.of, state.depth + 1, state.scope);
        if !of.recursive {
            return fail("the loop must have the 'recursive' marker to be called recursively");
        }
        let inside = std::mem::replace(&mut self.scope, scope);
        let text = self.caught(|run| run.deeper(|run| run.for_loop(of, &over, depth)));
        self.scope = inside;
        text.map(Value::Str)
    }
}
