//! What is known of the tools: their names, and the parameters in their order with their types.

use serde_json::{Map, Value};

/// The tools of a request, as chat APIs write them: with a `function` inside, or flat.
#[derive(Clone, Debug, Default)]
pub(super) struct Tools(Vec<Tool>);

#[derive(Clone, Debug)]
struct Tool {
    name: String,
    parameters: Map<String, Value>,
    /// What references lead into.
    schema: Value,
}

impl Tools {
    pub(super) fn new(tools: &[Value]) -> Self {
        let tool = |tool: &Value| {
            let function = tool.get("function").unwrap_or(tool);
            let schema = function.get("parameters").or(function.get("input_schema"));
            let parameters = schema.and_then(|schema| schema.get("properties"));
            Some(Tool {
                name: function.get("name")?.as_str()?.to_owned(),
                schema: schema.cloned().unwrap_or_default(),
                parameters: parameters
                    .and_then(Value::as_object)
                    .cloned()
                    .unwrap_or_default(),
            })
        };
        Self(tools.iter().filter_map(tool).collect())
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        self.tool(name).is_some()
    }

    /// The parameter that stands in this place, from 0, of arguments without names.
    pub(super) fn parameter_at(&self, name: &str, place: usize) -> Option<String> {
        self.tool(name)?.parameters.keys().nth(place).cloned()
    }

    /// The types of a parameter.
    pub(super) fn kinds(&self, name: &str, parameter: &str) -> Kinds {
        let mut kinds = Kinds::default();
        if let Some(tool) = self.tool(name)
            && let Some(schema) = tool.parameters.get(parameter)
        {
            kinds.add(schema, &tool.schema, 0);
        }
        kinds
    }

    fn tool(&self, name: &str) -> Option<&Tool> {
        self.0.iter().find(|tool| tool.name == name)
    }
}

/// The types that a schema allows, as far as it names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kinds(Vec<String>);

impl Kinds {
    fn add(&mut self, schema: &Value, whole: &Value, depth: usize) {
        let reference = schema.get("$ref").and_then(Value::as_str);
        if let Some(path) = reference.and_then(|reference| reference.strip_prefix('#')) {
            match whole.pointer(path) {
                Some(schema) if depth <= 8 => self.add(schema, whole, depth + 1),
                _ => {}
            }
            return;
        }
        match schema.get("type") {
            Some(Value::String(kind)) => self.0.push(kind.to_lowercase()),
            Some(Value::Array(kinds)) => {
                let kinds = kinds.iter().filter_map(Value::as_str);
                self.0.extend(kinds.map(str::to_lowercase));
            }
            _ => {}
        }
        if schema.get("nullable") == Some(&Value::Bool(true)) {
            self.0.push("null".to_owned());
        }
        if !self.0.is_empty() || depth > 8 {
            return;
        }
        for key in ["anyOf", "oneOf", "allOf"] {
            let some = schema.get(key).and_then(Value::as_array);
            some.into_iter()
                .flatten()
                .for_each(|one| self.add(one, whole, depth + 1));
        }
        let values = schema.get("enum").and_then(Value::as_array);
        for value in values.into_iter().flatten().chain(schema.get("const")) {
            self.0.push(kind_of(value).to_owned());
        }
    }

    /// The names of the types; none where it is not known.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether nothing is known of it.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it can be nothing but a text.
    pub(super) fn only_text(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|kind| kind == "string")
    }

    fn allow(&self, value: &Value) -> bool {
        // Who names no type may mean a structure, which nobody writes by accident.
        if self.0.is_empty() {
            return value.is_object() || value.is_array();
        }
        let kind = kind_of(value);
        let is = |name: &str| self.0.iter().any(|it| it == name);
        is(kind) || (kind == "integer" && is("number"))
    }

    /// The JSON of a value that was written without quotes: the first of `null`, a truth, a number and a structure
    /// that it is and may be, else a text.
    pub(super) fn json_of(&self, written: &str) -> String {
        let trimmed = written.trim();
        // Templates write them as Python does.
        let word = match trimmed {
            "None" => "null",
            "True" => "true",
            "False" => "false",
            other => other,
        };
        match serde_json::from_str::<Value>(word) {
            Ok(value) if !value.is_string() && self.allow(&value) => word.to_owned(),
            _ => super::json::quoted(written),
        }
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
