//! `'{} {name}'.format(...)`.

use super::super::failure::{Outcome, fail};
use super::super::filters::escaped;
use super::super::meter;
use super::super::run::Run;
use super::super::run::arguments::Args;
use super::super::value::{Draft, Text, Value, repr, string};
use super::spec;
use super::strings::ascii;

/// What is put in, and which numbers fields without one get.
struct Fields<'a> {
    args: &'a Args,
    /// The number of the next field without one.
    automatic: usize,
    /// Whether some field has a number of its own.
    manual: bool,
    escapes: bool,
}

/// `format.format(...)`.
pub(super) fn format(run: &mut Run<'_>, format: &Text, args: &Args) -> Outcome<Value> {
    let mut fields = Fields {
        args,
        automatic: 0,
        manual: false,
        escapes: format.safe,
    };
    let mut draft = Draft::new();
    fields.write(run, &mut draft, format, 2)?;
    Ok(Value::Str(draft.text()?.marked(format.safe)))
}

impl Fields<'_> {
    fn write(
        &mut self,
        run: &mut Run<'_>,
        out: &mut Draft,
        format: &str,
        depth: i32,
    ) -> Outcome<()> {
        if depth < 0 {
            return fail("Max string recursion exceeded");
        }
        let mut rest = format;
        while let Some(start) = rest.find(['{', '}']) {
            out.push_str(&rest[..start])?;
            let brace = &rest[start..=start];
            let after = &rest[start + 1..];
            if let Some(after) = after.strip_prefix(brace) {
                out.push_str(brace)?;
                rest = after;
            } else if brace == "}" {
                return fail("Single '}' encountered in format string");
            } else {
                rest = self.field(run, out, after, depth)?;
            }
        }
        out.push_str(rest)
    }

    /// Writes a field, `name!conversion:spec}`, and returns what comes after it.
    fn field<'f>(
        &mut self,
        run: &mut Run<'_>,
        out: &mut Draft,
        written: &'f str,
        depth: i32,
    ) -> Outcome<&'f str> {
        meter::spend(4)?;
        let mut open = 1;
        let mut in_index = false;
        let mut ends = None;
        let mut name_ends = None;
        for (index, byte) in written.bytes().enumerate() {
            match byte {
                b'[' if name_ends.is_none() => in_index = true,
                b']' => in_index = false,
                _ if in_index && name_ends.is_none() => {}
                b'{' => open += 1,
                b'}' => open -= 1,
                b'!' | b':' if name_ends.is_none() => name_ends = Some(index),
                _ => {}
            }
            if open == 0 {
                ends = Some(index);
                break;
            }
        }
        let Some(end) = ends else {
            return fail("expected '}' before end of string");
        };
        let name = &written[..name_ends.unwrap_or(end).min(end)];
        let mut options = &written[name.len()..end];
        let after = &written[end + 1..];
        let mut conversion = None;
        if let Some(converted) = options.strip_prefix('!') {
            conversion = converted.chars().next();
            if conversion.is_none() {
                return fail("end of string while looking for conversion specifier");
            }
            let length = conversion.map_or(0, char::len_utf8);
            options = &converted[length..];
            if !options.is_empty() && !options.starts_with(':') {
                return fail("expected ':' after conversion specifier");
            }
        }
        let value = self.value(run, name)?;
        let value = match conversion {
            None => value,
            Some('s') => Value::Str(string(&value)?),
            Some(kind @ ('r' | 'a')) => {
                let mut draft = Draft::new();
                repr(&mut draft, &value)?;
                Value::Str(if kind == 'a' {
                    ascii(draft.as_str())?
                } else {
                    draft.text()?
                })
            }
            Some(kind) => return fail(format!("Unknown conversion specifier {kind}")),
        };
        let mut spec = Draft::new();
        self.write(
            run,
            &mut spec,
            options.strip_prefix(':').unwrap_or_default(),
            depth - 1,
        )?;
        let text = if self.escapes && spec.as_str().is_empty() {
            escaped(&value)?
        } else {
            spec::format(&value, spec.as_str())?
        };
        out.push_str(&text)?;
        Ok(after)
    }

    /// The value of a field: an argument, then its attributes and items.
    fn value(&mut self, run: &mut Run<'_>, name: &str) -> Outcome<Value> {
        let first = &name[..name.find(['.', '[']).unwrap_or(name.len())];
        let mut rest = &name[first.len()..];
        let mut value = self.argument(first)?;
        while !rest.is_empty() {
            if let Some(attribute) = rest.strip_prefix('.') {
                let attribute = &attribute[..attribute.find(['.', '[']).unwrap_or(attribute.len())];
                if attribute.is_empty() {
                    return fail("Empty attribute in format string");
                }
                rest = &rest[1 + attribute.len()..];
                value = run.attribute(&value, attribute)?;
            } else if let Some((index, after)) =
                rest.strip_prefix('[').and_then(|it| it.split_once(']'))
            {
                if index.is_empty() {
                    return fail("Empty attribute in format string");
                }
                let key = match index.parse() {
                    Ok(number) => Value::Int(number),
                    Err(_) => Value::str(index)?,
                };
                rest = after;
                value = run.item(&value, &key)?;
            } else {
                return fail("Only '.' or '[' may follow ']' in format field specifier");
            }
        }
        Ok(value)
    }

    fn argument(&mut self, name: &str) -> Outcome<Value> {
        let index = if name.is_empty() {
            if self.manual {
                return fail(
                    "cannot switch from manual field specification to automatic field numbering",
                );
            }
            self.automatic += 1;
            Some(self.automatic - 1)
        } else if name.bytes().all(|byte| byte.is_ascii_digit()) {
            if self.automatic > 0 {
                return fail(
                    "cannot switch from automatic field numbering to manual field specification",
                );
            }
            self.manual = true;
            name.parse().ok()
        } else {
            let found = self.args.named.iter().find(|(known, _)| known == name);
            return match found {
                Some((_, value)) => Ok(value.clone()),
                None => fail(format!("KeyError: '{name}'")),
            };
        };
        match index.and_then(|index| self.args.positional.get(index)) {
            Some(value) => Ok(value.clone()),
            None => fail("Replacement index out of range for positional args tuple"),
        }
    }
}
