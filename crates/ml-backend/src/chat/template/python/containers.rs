//! Methods of lists, tuples, ranges and dictionaries.

use std::rc::Rc;

use super::super::failure::{Outcome, fail};
use super::super::globals;
use super::super::meter::Held;
use super::super::run::arguments::{Args, integer, needed};
use super::super::value::{Cursor, Dict, Value, View, equal};

pub(super) fn on_sequence(of: &Value, name: &str, args: Args) -> Outcome<Value> {
    if name == "copy" {
        args.none(name)?;
        return Ok(of.clone());
    }
    if name == "count" {
        let wanted = args.one(name)?;
        let mut count = 0;
        let mut items = Cursor::new(of)?;
        while let Some(item) = items.next()? {
            count += i128::from(equal(&item, &wanted)?);
        }
        return Ok(Value::Int(count));
    }
    let [wanted, start, stop] = args.unnamed(name)?;
    let wanted = needed(wanted, name, "value")?;
    let length = i128::try_from(of.len()?.unwrap_or(0)).unwrap_or(i128::MAX);
    let bound = |bound: Option<Value>, default| -> Outcome<i128> {
        let bound = integer(bound.as_ref(), default)?;
        Ok(if bound < 0 {
            (bound + length).max(0)
        } else {
            bound
        })
    };
    let (start, stop) = (bound(start, 0)?, bound(stop, length)?);
    let mut items = Cursor::new(of)?;
    let mut index = 0;
    while let Some(item) = items.next()? {
        if index >= start && index < stop && equal(&item, &wanted)? {
            return Ok(Value::Int(index));
        }
        index += 1;
    }
    fail(format!("value is not in {}", of.type_name()))
}

pub(super) fn on_dict(dict: &Rc<Held<Dict>>, of: &Value, name: &str, args: Args) -> Outcome<Value> {
    let view = match name {
        "keys" => View::Keys,
        "values" => View::Values,
        "items" => View::Items,
        "copy" => {
            args.none(name)?;
            return Ok(of.clone());
        }
        "fromkeys" => return globals::from_keys(args),
        _ => {
            let [key, default] = args.unnamed(name)?;
            let found = dict.get(&needed(key, name, "key")?)?;
            return Ok(found.cloned().or(default).unwrap_or(Value::None));
        }
    };
    args.none(name)?;
    Ok(Value::View(view, dict.clone()))
}
