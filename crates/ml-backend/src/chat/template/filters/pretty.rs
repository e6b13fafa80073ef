//! `pprint`, by the rules of Python's `pprint.pformat`.

use std::cmp::Ordering;

use super::super::failure::Outcome;
use super::super::run::Run;
use super::super::run::arguments::Args;
use super::super::value::{Dict, Draft, Value, order, repr};

const WIDTH: usize = 80;

pub(super) fn pprint(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    let [_verbose] = args.bind("pprint", ["verbose"])?;
    let mut draft = Draft::new();
    write(&mut draft, &sorted(&value)?, 0, 0)?;
    draft.text().map(Value::Str)
}

/// The value with all dictionaries in the order of their keys.
fn sorted(value: &Value) -> Outcome<Value> {
    Ok(match value {
        Value::Dict(dict) => {
            let mut entries: Vec<_> = dict.entries().to_vec();
            // Keys that do not compare stay where they are.
            let mut at = 1;
            while at < entries.len() {
                let mut to = at;
                while to > 0
                    && matches!(
                        order(&entries[to].0, &entries[to - 1].0),
                        Ok(Ordering::Less)
                    )
                {
                    entries.swap(to, to - 1);
                    to -= 1;
                }
                super::super::meter::spend(1)?;
                at += 1;
            }
            let mut dict = Dict::new();
            for (key, value) in entries {
                dict.insert(key, sorted(&value)?)?;
            }
            Value::dict(dict)?
        }
        Value::List(items) => Value::list(items.items.iter().map(sorted).collect::<Outcome<_>>()?)?,
        Value::Tuple(items) => {
            Value::tuple(items.items.iter().map(sorted).collect::<Outcome<_>>()?)?
        }
        other => other.clone(),
    })
}

/// Writes a value that begins at a column, and that so many characters follow on its last line.
fn write(out: &mut Draft, value: &Value, column: usize, after: usize) -> Outcome<()> {
    let mut line = Draft::new();
    repr(&mut line, value)?;
    let fits = line.as_str().chars().count() <= WIDTH.saturating_sub(column + after);
    let (open, items, close) = match value {
        Value::List(items) if !fits => ("[", &items.items, "]"),
        Value::Tuple(items) if !fits => (
            "(",
            &items.items,
            if items.items.len() == 1 { ",)" } else { ")" },
        ),
        Value::Dict(dict) if !fits => {
            out.push('{')?;
            for (index, (key, value)) in dict.entries().iter().enumerate() {
                if index > 0 {
                    out.push_str(",\n")?;
                    out.repeat(" ", column + 1)?;
                }
                let mut name = Draft::new();
                repr(&mut name, key)?;
                out.push_str(name.as_str())?;
                out.push_str(": ")?;
                let last = index + 1 == dict.len();
                let begin = column + 1 + name.as_str().chars().count() + 2;
                write(out, value, begin, if last { after + 1 } else { 1 })?;
            }
            return out.push('}');
        }
        _ => return out.push_str(line.as_str()),
    };
    out.push_str(open)?;
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push_str(",\n")?;
            out.repeat(" ", column + 1)?;
        }
        let last = index + 1 == items.len();
        write(
            out,
            item,
            column + 1,
            if last { after + close.len() } else { 1 },
        )?;
    }
    out.push_str(close)
}
