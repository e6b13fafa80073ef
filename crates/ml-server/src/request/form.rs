//! The form that an answer has to have: JSON, or JSON under a schema.

use ml_backend::{Options, Structure};
use serde_json::Value;

use crate::errors::{ApiError, Result};
use crate::fields::Fields;

/// Takes `response_format` of OpenAI's chat API: the schema stands in an object of its own.
pub(super) fn response_format(fields: &mut Fields, options: &mut Options) -> Result<()> {
    let Some(mut format) = fields.object("response_format")? else {
        return Ok(());
    };
    let kind: String = format.need("type")?;
    options.structure = match kind.as_str() {
        "text" => None,
        "json_object" => Some(Structure::JsonObject),
        "json_schema" => {
            let missing = || ApiError::field(format.path("json_schema"), "missing");
            let missing = missing();
            let mut schema = format.object("json_schema")?.ok_or(missing)?;
            let form = self::schema(&mut schema)?;
            schema.end()?;
            Some(form)
        }
        other => return Err(unknown(&format, other)),
    };
    format.end()
}

/// Takes `format` of OpenAI's responses and of Anthropic's `output_config`: the schema stands beside its type.
pub(super) fn format(fields: &mut Fields, options: &mut Options) -> Result<()> {
    let Some(mut format) = fields.object("format")? else {
        return Ok(());
    };
    let kind: String = format.need("type")?;
    options.structure = match kind.as_str() {
        "text" => None,
        "json_object" => Some(Structure::JsonObject),
        "json_schema" => Some(schema(&mut format)?),
        other => return Err(unknown(&format, other)),
    };
    format.end()
}

fn schema(fields: &mut Fields) -> Result<Structure> {
    // A form is always held to, so `strict` asks for what there is.
    fields.ignore(&["name", "description", "strict"]);
    fields.need::<Value>("schema").map(Structure::JsonSchema)
}

fn unknown(format: &Fields, kind: &str) -> ApiError {
    let message = format!("is {kind:?}; it must be text, json_object or json_schema");
    ApiError::field(format.path("type"), message)
}

/// Refuses a form beside a call that has to be made: what is held to it has no room for that. Where a call may be made,
/// an answer is one, or of the form.
pub(super) fn check(options: &Options, field: &str) -> Result<()> {
    use ml_backend::ToolChoice::{Required, Tool};
    let calls = matches!(options.tool_choice, Required | Tool(_));
    match options.structure.is_some() && calls {
        true => Err(ApiError::unsupported(
            field,
            "beside a call that has to be made; let tool_choice be auto",
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(sent: Value) -> Result<Option<Structure>> {
        let Value::Object(map) = sent else { panic!() };
        let (mut fields, mut options) = (Fields::new(map), Options::new());
        response_format(&mut fields, &mut options)?;
        format(&mut fields, &mut options)?;
        fields.end()?;
        Ok(options.structure)
    }

    #[test]
    fn a_schema_is_found_in_both_places() {
        let schema = json!({"type": "object"});
        let expected = Some(Structure::JsonSchema(schema.clone()));
        let inside = json!({"name": "x", "strict": true, "schema": schema});
        let chat = json!({"response_format": {"type": "json_schema", "json_schema": inside}});
        assert_eq!(read(chat).unwrap(), expected);
        let flat = json!({"format": {"type": "json_schema", "name": "x", "schema": schema}});
        assert_eq!(read(flat).unwrap(), expected);
        assert_eq!(
            read(json!({"response_format": {"type": "text"}})).unwrap(),
            None
        );
        let wrong = read(json!({"response_format": {"type": "xml"}})).unwrap_err();
        assert_eq!(wrong.param.as_deref(), Some("response_format.type"));
        let missing = read(json!({"response_format": {"type": "json_schema"}})).unwrap_err();
        assert_eq!(
            missing.param.as_deref(),
            Some("response_format.json_schema")
        );
    }
}
