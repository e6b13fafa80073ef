//! Where variables live.
//!
//! A loop's turn, a macro's body and some blocks have a scope of their own; `if` has none. A macro
//! sees the scopes around its definition, so those stay for as long as the rendering lasts, and
//! all others go when they are left.

use super::super::failure::{Outcome, fail};
use super::super::meter;
use super::super::syntax::ast::{Symbol, Target};
use super::super::value::{Cursor, Kind, Value};
use super::Run;

#[derive(Debug, Default)]
pub(super) struct Scope {
    around: Option<usize>,
    variables: Vec<(Symbol, Value)>,
    /// Whether a macro was defined in it or inside of it.
    kept: bool,
}

impl Run<'_> {
    /// Runs something in a new scope inside of `around`.
    pub(super) fn scoped<T>(
        &mut self,
        around: usize,
        run: impl FnOnce(&mut Self) -> Outcome<T>,
    ) -> Outcome<T> {
        let outside = self.scope;
        self.scopes.push(Scope {
            around: Some(around),
            ..Scope::default()
        });
        self.scope = self.scopes.len() - 1;
        let result = run(self);
        if self.scopes.pop_if(|scope| !scope.kept).is_none() {
            meter::take(size_of::<Scope>())?;
        }
        self.scope = outside;
        result
    }

    /// Keeps the current scope, and those around it, for a macro. Returns its number.
    pub(super) fn keep_scope(&mut self) -> usize {
        let mut next = Some(self.scope);
        while let Some(scope) = next
            .and_then(|at| self.scopes.get_mut(at))
            .filter(|it| !it.kept)
        {
            scope.kept = true;
            next = scope.around;
        }
        self.scope
    }

    pub(super) fn current_scope(&self) -> usize {
        self.scope
    }

    /// The value of a variable.
    pub(super) fn lookup(&self, symbol: Symbol) -> Outcome<Value> {
        let mut next = Some(self.scope);
        while let Some(scope) = next.and_then(|at| self.scopes.get(at)) {
            meter::spend(u64::try_from(scope.variables.len() / 32).unwrap_or(0))?;
            if let Some((_, value)) = scope.variables.iter().find(|(known, _)| *known == symbol) {
                return Ok(value.clone());
            }
            next = scope.around;
        }
        Ok(match self.context.get(symbol) {
            Some(Some(value)) => value.clone(),
            _ => Value::undefined(format!("'{}' is undefined", self.template.symbols[symbol])),
        })
    }

    /// Sets a variable of the current scope.
    pub(super) fn define(&mut self, symbol: Symbol, value: Value) -> Outcome<()> {
        if let Some(scope) = self.scopes.get_mut(self.scope) {
            meter::spend(u64::try_from(scope.variables.len() / 32).unwrap_or(0))?;
            match scope
                .variables
                .iter_mut()
                .find(|(known, _)| *known == symbol)
            {
                Some(variable) => variable.1 = value,
                None => scope.variables.push((symbol, value)),
            }
        }
        Ok(())
    }

    /// Assigns to a target.
    pub(super) fn assign(&mut self, target: &Target, value: Value) -> Outcome<()> {
        match target {
            Target::Name(symbol) => self.define(*symbol, value),
            Target::Attribute(symbol, name) => match self.lookup(*symbol)? {
                Value::Object(Kind::Namespace, index) => self.set_in_namespace(index, name, value),
                _ => fail("cannot assign attribute on non-namespace object"),
            },
            Target::Tuple(targets) => {
                let mut items = Cursor::new(&value)?;
                let wanted = targets.len();
                let mut values = Vec::with_capacity(wanted);
                while values.len() < wanted {
                    match items.next()? {
                        Some(item) => values.push(item),
                        None => {
                            let got = values.len();
                            return fail(format!(
                                "not enough values to unpack (expected {wanted}, got {got})"
                            ));
                        }
                    }
                }
                if items.next()?.is_some() {
                    return fail(format!("too many values to unpack (expected {wanted})"));
                }
                for (target, value) in targets.iter().zip(values) {
                    self.assign(target, value)?;
                }
                Ok(())
            }
        }
    }

    pub(in super::super) fn set_in_namespace(
        &mut self,
        index: usize,
        name: &str,
        value: Value,
    ) -> Outcome<()> {
        if name.starts_with('_') {
            return fail(format!(
                "a chat template cannot store underscore-prefixed attributes on a namespace, but got '{name}'"
            ));
        }
        let Some(namespace) = self.namespaces.get_mut(index) else {
            return Ok(());
        };
        meter::spend(u64::try_from(namespace.len() / 8).unwrap_or(0))?;
        match namespace.iter_mut().find(|(known, _)| known == name) {
            Some(attribute) => attribute.1 = value,
            None => {
                meter::take(name.len() + size_of::<(String, Value)>())?;
                namespace.push((name.to_owned(), value));
            }
        }
        Ok(())
    }
}
