//! Statements.

use super::super::failure::{Outcome, fail};
use super::super::filters::escaped;
use super::super::syntax::ast::{Expr, Node, Stmt, StmtKind};
use super::super::value::{Text, Value, string};
use super::Run;

/// How statements end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Next,
    Break,
    Continue,
}

impl<'t> Run<'t> {
    pub(super) fn statements(&mut self, statements: &'t [Stmt]) -> Outcome<Flow> {
        for statement in statements {
            let flow = self.deeper(|run| run.statement(&statement.kind));
            match flow.map_err(|failure| failure.at(statement.line))? {
                Flow::Next => {}
                flow => return Ok(flow),
            }
        }
        Ok(Flow::Next)
    }

    fn statement(&mut self, statement: &'t StmtKind) -> Outcome<Flow> {
        match statement {
            StmtKind::Text(text) => self.write(text)?,
            StmtKind::Output(node) => {
                let value = self.eval(node)?;
                self.output(&value)?;
            }
            StmtKind::If(branches, otherwise) => {
                for (test, body) in branches {
                    if self.eval(test)?.truth() {
                        return self.statements(body);
                    }
                }
                return self.statements(otherwise);
            }
            StmtKind::For(it) => {
                let over = self.eval(&it.over)?;
                return self.for_loop(it, &over, 0);
            }
            StmtKind::Set(target, node) => {
                let value = self.eval(node)?;
                self.assign(target, value)?;
            }
            StmtKind::SetBlock(target, filter, body) => {
                let text = self.caught_in_scope(body)?;
                let value = match filter {
                    Some(filter) => self.filtered(filter, text)?,
                    None => Value::Str(text),
                };
                self.assign(target, value)?;
            }
            StmtKind::With(values, body) => {
                let values = values
                    .iter()
                    .map(|(target, node)| Ok((target, self.eval(node)?)));
                let values = values.collect::<Outcome<Vec<_>>>()?;
                let around = self.current_scope();
                return self.scoped(around, |run| {
                    for (target, value) in values {
                        run.assign(target, value)?;
                    }
                    run.statements(body)
                });
            }
            StmtKind::Macro(it) => {
                let value = self.define_macro(it)?;
                self.define(it.symbol, value)?;
            }
            StmtKind::CallBlock(call, caller) => {
                let caller = self.define_macro(caller)?;
                let value = self.call_with_caller(call, caller)?;
                self.output(&value)?;
            }
            StmtKind::Filter(filter, body) => {
                let text = self.caught_in_scope(body)?;
                let value = self.filtered(filter, text)?;
                self.output(&value)?;
            }
            StmtKind::AutoEscape(node, body) => {
                let escapes = self.eval(node)?.truth();
                let before = std::mem::replace(&mut self.escapes, escapes);
                let around = self.current_scope();
                let flow = self.scoped(around, |run| run.statements(body));
                self.escapes = before;
                return flow;
            }
            StmtKind::Scope(body) => {
                let around = self.current_scope();
                return self.scoped(around, |run| run.statements(body));
            }
            StmtKind::Elsewhere(tag) => {
                return fail(format!(
                    "'{tag}' needs another template, and a chat template has none"
                ));
            }
            StmtKind::Break => return Ok(Flow::Break),
            StmtKind::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    /// Writes a value as `{{ value }}` does.
    fn output(&mut self, value: &Value) -> Outcome<()> {
        let text = if self.escapes {
            escaped(value)?
        } else if let Value::Object(..) = value {
            self.describe(value)?
        } else {
            string(value)?
        };
        self.write(&text)
    }

    fn caught_in_scope(&mut self, body: &'t [Stmt]) -> Outcome<Text> {
        let around = self.current_scope();
        self.caught(|run| run.scoped(around, |run| run.statements(body)))
    }

    /// Applies the filters of a block to its text.
    fn filtered(&mut self, filter: &'t Node, text: Text) -> Outcome<Value> {
        let Expr::Filter(inner, name, arguments) = &filter.expr else {
            return fail("a block's filter is no filter");
        };
        let value = match inner {
            Some(inner) => self.deeper(|run| run.filtered(inner, text))?,
            None => Value::Str(text),
        };
        let args = self.arguments(arguments)?;
        self.filter(name, value, args)
            .map_err(|failure| failure.at(filter.line))
    }
}
