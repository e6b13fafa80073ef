//! Calls of macros, functions and methods.

use super::super::failure::{Outcome, fail};
use super::super::meter;
use super::super::syntax::ast::{Arguments, Expr, Macro, Node};
use super::super::value::Draft;
use super::super::value::{Cursor, Dict, Kind, Text, Value, repr};
use super::super::{filters, globals, python, tests};
use super::Run;
use super::arguments::Args;

/// A macro, and the scope that it was defined in.
pub(super) struct MacroObject<'t> {
    of: &'t Macro,
    scope: usize,
}

impl<'t> Run<'t> {
    pub(super) fn define_macro(&mut self, of: &'t Macro) -> Outcome<Value> {
        let scope = self.keep_scope();
        meter::take(size_of::<MacroObject<'_>>())?;
        self.macros.push(MacroObject { of, scope });
        Ok(Value::Object(Kind::Macro, self.macros.len() - 1))
    }

    /// Evaluates the arguments of a call.
    pub(super) fn arguments(&mut self, arguments: &'t Arguments) -> Outcome<Args> {
        let mut args = Args::default();
        for node in &arguments.positional {
            args.positional.push(self.eval(node)?);
        }
        for (name, node) in &arguments.named {
            args.named.push((name.clone(), self.eval(node)?));
        }
        if let Some(more) = &arguments.more {
            let more = self.eval(more)?;
            args.positional.extend(Cursor::all(&more)?);
        }
        if let Some(more) = &arguments.more_named {
            let more = self.eval(more)?;
            let Value::Dict(more) = &more else {
                return fail(format!(
                    "argument after ** must be a mapping, not {}",
                    more.type_name()
                ));
            };
            for (name, value) in more.entries() {
                match name.as_str() {
                    Some(name) => args.named.push((name.to_owned(), value.clone())),
                    None => return fail("keywords must be strings"),
                }
            }
        }
        Ok(args)
    }

    /// A call in a `call` block: with what the block is as a further argument, `caller`.
    pub(super) fn call_with_caller(&mut self, call: &'t Node, caller: Value) -> Outcome<Value> {
        let Expr::Call(function, arguments) = &call.expr else {
            return fail("expected call");
        };
        let function = self.eval(function)?;
        let mut args = self.arguments(arguments)?;
        args.named.push(("caller".to_owned(), caller));
        self.call(&function, args)
            .map_err(|failure| failure.at(call.line))
    }

    pub(in super::super) fn call(&mut self, function: &Value, args: Args) -> Outcome<Value> {
        self.deeper(|run| match function {
            Value::Function(name) => globals::call(run, name, args),
            Value::Method(method) => match &method.of {
                Value::Object(Kind::Loop, number) => run.loop_method(*number, method.name, args),
                Value::Object(Kind::Cycler, number) => {
                    run.cycler_method(*number, method.name, args)
                }
                Value::Function(_) => globals::from_keys(args),
                of => python::call(run, of, method.name, args),
            },
            Value::Object(Kind::Macro, number) => run.call_macro(*number, args),
            Value::Object(Kind::Loop, number) => run.recurse(*number, args),
            Value::Object(Kind::Joiner, number) => {
                args.none("joiner")?;
                match run.joiners.get_mut(*number) {
                    Some((_, used @ false)) => {
                        *used = true;
                        Value::str("")
                    }
                    Some((separator, _)) => Ok(separator.clone()),
                    None => Ok(Value::None),
                }
            }
            _ => {
                function.defined()?;
                fail(format!("'{}' object is not callable", function.type_name()))
            }
        })
    }

    fn cycler_method(&mut self, number: usize, name: &str, args: Args) -> Outcome<Value> {
        args.none(name)?;
        let Some((items, at)) = self.cyclers.get_mut(number) else {
            return Ok(Value::None);
        };
        if name == "reset" {
            *at = 0;
            return Ok(Value::None);
        }
        let current = items[*at].clone();
        *at = (*at + 1) % items.len();
        Ok(current)
    }

    fn call_macro(&mut self, number: usize, args: Args) -> Outcome<Value> {
        let (of, scope) = (self.macros[number].of, self.macros[number].scope);
        let name = &of.name;
        let count = of.parameters.len();
        let mut positional = args.positional.into_iter();
        let mut named = args.named;
        let mut take = |wanted: &str| {
            let at = named.iter().position(|(name, _)| name == wanted)?;
            Some(named.remove(at).1)
        };
        let mut values: Vec<Option<Value>> = positional.by_ref().take(count).map(Some).collect();
        for (symbol, _) in &of.parameters[values.len()..] {
            values.push(take(&self.template.symbols[*symbol]));
        }
        let caller = of.caller.map(|symbol| {
            let caller = take("caller").unwrap_or_else(|| Value::undefined("no caller defined"));
            (symbol, caller)
        });
        let varargs: Vec<Value> = positional.collect();
        if of.varargs.is_none() && !varargs.is_empty() {
            return fail(format!(
                "macro '{name}' takes not more than {count} argument(s)"
            ));
        }
        let kwargs = match (of.kwargs, named.first()) {
            (Some(symbol), _) => {
                let mut kwargs = Dict::new();
                for (name, value) in named {
                    kwargs.insert(Value::str(name)?, value)?;
                }
                Some((symbol, Value::dict(kwargs)?))
            }
            (None, Some((given, _))) => {
                return fail(format!(
                    "macro '{name}' takes no keyword argument '{given}'"
                ));
            }
            (None, None) => None,
        };
        let varargs = match of.varargs {
            Some(symbol) => Some((symbol, Value::tuple(varargs)?)),
            None => None,
        };
        let text = self.caught(|run| {
            run.scoped(scope, |run| {
                for (symbol, value) in [caller, kwargs, varargs].into_iter().flatten() {
                    run.define(symbol, value)?;
                }
                for ((symbol, default), value) in of.parameters.iter().zip(values) {
                    let value = match (value, default) {
                        (Some(value), _) => value,
                        (None, Some(default)) => run.eval(default)?,
                        (None, None) => {
                            let parameter = &run.template.symbols[*symbol];
                            Value::undefined(format!("parameter '{parameter}' was not provided"))
                        }
                    };
                    run.define(*symbol, value)?;
                }
                run.statements(&of.body)
            })
        })?;
        Ok(Value::Str(text))
    }

    /// Applies a filter by its name.
    pub(in super::super) fn filter(
        &mut self,
        name: &str,
        value: Value,
        args: Args,
    ) -> Outcome<Value> {
        match filters::find(name) {
            Some(filter) => self.deeper(|run| filter(run, value, args)),
            None => fail(format!("no filter named '{name}'")),
        }
    }

    /// Applies a test by its name.
    pub(in super::super) fn test(
        &mut self,
        name: &str,
        value: &Value,
        args: Args,
    ) -> Outcome<bool> {
        match tests::find(name) {
            Some(test) => self.deeper(|_| test(value, args)),
            None => fail(format!("no test named '{name}'")),
        }
    }

    /// An attribute of a macro.
    pub(super) fn macro_attribute(&self, number: usize, name: &str) -> Outcome<Option<Value>> {
        let of = self.macros[number].of;
        Ok(Some(match name {
            "name" => Value::str(of.name.as_str())?,
            "arguments" => {
                let names = of
                    .parameters
                    .iter()
                    .map(|(symbol, _)| &self.template.symbols[*symbol]);
                let names = names.map(|name| Value::str(name.as_str()));
                Value::list(names.collect::<Outcome<_>>()?)?
            }
            "catch_kwargs" => Value::Bool(of.kwargs.is_some()),
            "catch_varargs" => Value::Bool(of.varargs.is_some()),
            "caller" => Value::Bool(of.caller.is_some()),
            _ => return Ok(None),
        }))
    }

    /// `str()` of something that the interpreter keeps.
    pub(in super::super) fn describe(&self, value: &Value) -> Outcome<Text> {
        let mut out = Draft::new();
        match value {
            Value::Object(Kind::Namespace, index) => {
                let mut attributes = Dict::new();
                for (name, value) in &self.namespaces[*index] {
                    attributes.insert(Value::str(name.as_str())?, value.clone())?;
                }
                out.push_str("<Namespace ")?;
                repr(&mut out, &Value::dict(attributes)?)?;
                out.push('>')?;
            }
            Value::Object(Kind::Macro, number) => {
                out.push_str("<Macro ")?;
                repr(
                    &mut out,
                    &Value::str(self.macros[*number].of.name.as_str())?,
                )?;
                out.push('>')?;
            }
            _ => repr(&mut out, value)?,
        }
        out.text()
    }
}
