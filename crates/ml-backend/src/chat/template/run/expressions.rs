//! Expressions.

use super::super::failure::{Outcome, fail};
use super::super::filters::escaped;
use super::super::python::operators;
use super::super::syntax::ast::{Comparison, Expr, Node};
use super::super::value::{Dict, Draft, Value, equal, less, string};
use super::Run;
use super::attributes::slice;

impl<'t> Run<'t> {
    pub(super) fn eval(&mut self, node: &'t Node) -> Outcome<Value> {
        let result = self.deeper(|run| run.expression(&node.expr));
        result.map_err(|failure| failure.at(node.line))
    }

    fn expression(&mut self, expr: &'t Expr) -> Outcome<Value> {
        match expr {
            Expr::None => Ok(Value::None),
            Expr::Bool(value) => Ok(Value::Bool(*value)),
            Expr::Literal(number) => Ok(self.literals[*number].clone()),
            Expr::Name(symbol) => self.lookup(*symbol),
            Expr::List(items) => Value::list(self.all(items)?),
            Expr::Tuple(items) => Value::tuple(self.all(items)?),
            Expr::Dict(items) => self.dict(items),
            Expr::Attribute(node, name) => {
                let value = self.eval(node)?;
                self.attribute(&value, name)
            }
            Expr::Item(pair) => {
                let value = self.eval(&pair.0)?;
                let key = self.eval(&pair.1)?;
                self.item(&value, &key)
            }
            Expr::Slice(node, bounds) => self.slice(node, bounds),
            Expr::Call(function, arguments) => {
                let function = self.eval(function)?;
                let args = self.arguments(arguments)?;
                self.call(&function, args)
            }
            Expr::Filter(node, name, arguments) => {
                let Some(node) = node else {
                    return fail(format!("the filter '{name}' has no value"));
                };
                let value = self.eval(node)?;
                let args = self.arguments(arguments)?;
                self.filter(name, value, args)
            }
            Expr::Test(node, name, arguments) => {
                let value = self.eval(node)?;
                let args = self.arguments(arguments)?;
                self.test(name, &value, args).map(Value::Bool)
            }
            Expr::Not(node) => Ok(Value::Bool(!self.eval(node)?.truth())),
            Expr::Negative(node) => operators::negative(&self.eval(node)?),
            Expr::Positive(node) => operators::positive(self.eval(node)?),
            Expr::Binary(operator, pair) => {
                let left = self.eval(&pair.0)?;
                let right = self.eval(&pair.1)?;
                operators::binary(*operator, &left, &right)
            }
            Expr::Concat(items) => self.concat(items),
            Expr::Compare(node, others) => self.compare(node, others),
            Expr::And(pair) => {
                let left = self.eval(&pair.0)?;
                if left.truth() {
                    self.eval(&pair.1)
                } else {
                    Ok(left)
                }
            }
            Expr::Or(pair) => {
                let left = self.eval(&pair.0)?;
                if left.truth() {
                    Ok(left)
                } else {
                    self.eval(&pair.1)
                }
            }
            Expr::Condition(pair, otherwise) => {
                if self.eval(&pair.0)?.truth() {
                    return self.eval(&pair.1);
                }
                match otherwise {
                    Some(otherwise) => self.eval(otherwise),
                    None => Ok(Value::undefined(
                        "the inline if-expression evaluated to false and no else section was defined.",
                    )),
                }
            }
        }
    }

    fn all(&mut self, nodes: &'t [Node]) -> Outcome<Vec<Value>> {
        nodes.iter().map(|node| self.eval(node)).collect()
    }

    fn dict(&mut self, items: &'t [(Node, Node)]) -> Outcome<Value> {
        let mut dict = Dict::new();
        for (key, value) in items {
            let key = self.eval(key)?;
            dict.insert(key, self.eval(value)?)?;
        }
        Value::dict(dict)
    }

    fn slice(&mut self, node: &'t Node, bounds: &'t [Option<Node>; 3]) -> Outcome<Value> {
        let value = self.eval(node)?;
        let mut evaluated = [None, None, None];
        for (slot, bound) in evaluated.iter_mut().zip(bounds) {
            if let Some(bound) = bound {
                *slot = Some(self.eval(bound)?);
            }
        }
        slice(&value, evaluated)
    }

    fn concat(&mut self, items: &'t [Node]) -> Outcome<Value> {
        let mut draft = Draft::new();
        for item in items {
            let value = self.eval(item)?;
            let text = if self.escapes {
                escaped(&value)?
            } else if let Value::Object(..) = value {
                self.describe(&value)?
            } else {
                string(&value)?
            };
            draft.push_str(&text)?;
        }
        Ok(Value::Str(draft.text()?.marked(self.escapes)))
    }

    fn compare(&mut self, node: &'t Node, others: &'t [(Comparison, Node)]) -> Outcome<Value> {
        let mut left = self.eval(node)?;
        for (comparison, node) in others {
            let right = self.eval(node)?;
            let holds = match comparison {
                Comparison::Equal => equal(&left, &right)?,
                Comparison::NotEqual => !equal(&left, &right)?,
                Comparison::Less => less(&left, &right, "<")?,
                Comparison::Greater => less(&right, &left, ">")?,
                Comparison::LessEqual => operators::at_most(&left, &right, "<=")?,
                Comparison::GreaterEqual => operators::at_most(&right, &left, ">=")?,
                Comparison::In => operators::contains(&right, &left)?,
                Comparison::NotIn => !operators::contains(&right, &left)?,
            };
            if !holds {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }
}
