//! Runs a template's tree.

pub(super) mod arguments;
mod attributes;
mod calls;
mod expressions;
mod loops;
mod scopes;
mod statements;

use super::failure::{Outcome, fail};
use super::globals;
use super::meter::{self, DEPTH};
use super::syntax::Template;
use super::syntax::ast::{Literal, Symbol};
use super::value::{Draft, Text, Value};

use calls::MacroObject;
use loops::LoopState;
use scopes::Scope;

/// A rendering.
pub(super) struct Run<'t> {
    template: &'t Template,
    literals: Vec<Value>,
    /// The variables that the template is given, and the functions of the environment.
    context: Vec<Option<Value>>,
    /// The scopes of variables, of which each knows the one around it.
    scopes: Vec<Scope>,
    /// The scope of the statement that runs.
    scope: usize,
    /// The text, and the texts of the blocks that are caught.
    out: Vec<Draft>,
    depth: u32,
    /// Whether output is escaped for HTML, as in an `autoescape` block.
    pub(super) escapes: bool,
    /// The name `loop`, if the template has it.
    loop_symbol: Option<Symbol>,
    loops: Vec<LoopState<'t>>,
    macros: Vec<MacroObject<'t>>,
    pub(super) namespaces: Vec<Vec<(String, Value)>>,
    pub(super) cyclers: Vec<(Vec<Value>, usize)>,
    pub(super) joiners: Vec<(Value, bool)>,
}

impl<'t> Run<'t> {
    /// Renders a template with variables. The thread's meter has to run.
    pub(super) fn render(template: &'t Template, variables: Vec<(&str, Value)>) -> Outcome<String> {
        let literals = template.literals.iter().map(|literal| match literal {
            Literal::Str(text) => Value::str(text.as_str()),
            Literal::Int(number) => Ok(Value::Int(*number)),
            Literal::Float(number) => Ok(Value::Float(*number)),
        });
        let context = template.symbols.iter().map(|name| {
            let given = variables.iter().rev().find(|(given, _)| given == name);
            let own = || globals::NAMES.iter().find(|own| *own == name);
            given
                .map(|(_, value)| value.clone())
                .or_else(|| own().map(|name| Value::Function(name)))
        });
        let mut run = Self {
            template,
            literals: literals.collect::<Outcome<_>>()?,
            context: context.collect(),
            scopes: vec![Scope::default()],
            scope: 0,
            out: vec![Draft::new()],
            depth: 0,
            escapes: false,
            loop_symbol: template.symbols.iter().position(|name| name == "loop"),
            loops: Vec::new(),
            macros: Vec::new(),
            namespaces: Vec::new(),
            cyclers: Vec::new(),
            joiners: Vec::new(),
        };
        drop(variables);
        run.statements(&template.body)?;
        Ok(run.out.pop().map(Draft::into_string).unwrap_or_default())
    }

    /// Goes one level deeper.
    fn deeper<T>(&mut self, go: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        meter::spend(1)?;
        if self.depth >= DEPTH {
            return fail(format!("maximum recursion depth exceeded ({DEPTH} levels)"));
        }
        self.depth += 1;
        let result = go(self);
        self.depth -= 1;
        result
    }

    /// Writes to the text.
    fn write(&mut self, text: &str) -> Outcome<()> {
        meter::spend_bytes(text.len())?;
        match self.out.last_mut() {
            Some(out) => out.push_str(text),
            None => Ok(()),
        }
    }

    /// Runs something and catches what it writes.
    fn caught<T>(&mut self, run: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<Text> {
        self.out.push(Draft::new());
        let result = run(self);
        let caught = self.out.pop().unwrap_or_default();
        result?;
        Ok(caught.text()?.marked(self.escapes))
    }
}
