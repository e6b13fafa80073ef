//! `map`, `select` and `reject`.

use super::super::failure::{Outcome, fail};
use super::super::meter::Gather;
use super::super::run::Run;
use super::super::run::arguments::{Args, text};
use super::super::value::{Cursor, Value};
use super::attributes::Getter;

impl Args {
    fn again(&self) -> Self {
        Self {
            positional: self.positional.clone(),
            named: self.named.clone(),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.named.iter().position(|(known, _)| known == name)?;
        Some(self.named.remove(at).1)
    }
}

/// `map(filter, ...)` or `map(attribute=..., default=...)`.
pub(super) fn map(run: &mut Run<'_>, value: Value, mut args: Args) -> Outcome<Value> {
    let mut mapped = Gather::new();
    if !value.truth() {
        return Value::iter(mapped.done());
    }
    let mut items = Cursor::new(&value)?;
    if args.positional.is_empty() {
        let Some(attribute) = args.take("attribute") else {
            return fail("map requires a filter argument");
        };
        let default = args.take("default");
        if let Some((name, _)) = args.named.first() {
            return fail(format!("unexpected keyword argument '{name}'"));
        }
        let getter = Getter::new(Some(&attribute), false)?.with_default(default);
        while let Some(item) = items.next()? {
            mapped.push(getter.get(run, &item)?)?;
        }
    } else {
        let name = args.positional.remove(0);
        let name = text(&name)?;
        while let Some(item) = items.next()? {
            mapped.push(run.filter(name, item, args.again())?)?;
        }
    }
    Value::iter(mapped.done())
}

pub(super) fn select(run: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    chosen(run, &value, args, true, false)
}

pub(super) fn reject(run: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    chosen(run, &value, args, false, false)
}

pub(super) fn select_attribute(run: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    chosen(run, &value, args, true, true)
}

pub(super) fn reject_attribute(run: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    chosen(run, &value, args, false, true)
}

/// The items of which a test, or their truth, is `wanted`.
fn chosen(
    run: &mut Run<'_>,
    value: &Value,
    mut args: Args,
    wanted: bool,
    by_attribute: bool,
) -> Outcome<Value> {
    let mut chosen = Gather::new();
    if !value.truth() {
        return Value::iter(chosen.done());
    }
    let attribute = match (by_attribute, args.positional.is_empty()) {
        (true, true) => return fail("Missing parameter for attribute name"),
        (true, false) => Some(args.positional.remove(0)),
        _ => None,
    };
    let getter = Getter::new(attribute.as_ref(), false)?;
    let test = (!args.positional.is_empty()).then(|| args.positional.remove(0));
    let mut items = Cursor::new(value)?;
    while let Some(item) = items.next()? {
        let looked_at = getter.get(run, &item)?;
        let holds = match &test {
            Some(test) => run.test(text(test)?, &looked_at, args.again())?,
            None => looked_at.truth(),
        };
        if holds == wanted {
            chosen.push(item)?;
        }
    }
    Value::iter(chosen.done())
}
