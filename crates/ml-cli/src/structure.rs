//! The form of an answer on the command line.

use clap::Args;
use ml_backend::{Options, Structure};

/// What an answer has to be.
#[derive(Args, Debug)]
pub(crate) struct StructureArgs {
    #[command(flatten)]
    form: FormArgs,
    /// Hold the answer to its form from behind this text on, such as `</think>`; what comes before it is free
    /// [default: from its beginning, with --thinking on from behind `</think>`].
    #[arg(long, value_name = "TEXT", value_parser = not_empty, requires = "FormArgs", help_heading = "Structure")]
    structure_after: Option<String>,
}

#[derive(Args, Debug)]
#[group(multiple = false)]
struct FormArgs {
    /// Answer with JSON that is valid under the JSON schema in this file.
    #[arg(long, value_name = "FILE", value_parser = json_schema, help_heading = "Structure")]
    json_schema: Option<Structure>,
    /// Answer with a JSON object.
    #[arg(long, help_heading = "Structure")]
    json_object: bool,
    /// Answer with a text that this regular expression matches from beginning to end.
    #[arg(
        long,
        value_name = "REGEX",
        allow_hyphen_values = true,
        help_heading = "Structure"
    )]
    regex: Option<String>,
    /// Answer with a text of the Lark grammar in this file, which begins with its rule `start`.
    #[arg(long, value_name = "FILE", value_parser = grammar, help_heading = "Structure")]
    grammar: Option<Structure>,
}

impl StructureArgs {
    /// Adds it to the options.
    pub(crate) fn apply(&self, options: &mut Options) {
        let form = &self.form;
        let regex = form.regex.clone().map(Structure::Regex);
        let object = form.json_object.then_some(Structure::JsonObject);
        let given = form.json_schema.clone().or(form.grammar.clone());
        options.structure = given.or(regex).or(object);
        options.structure_after = self.structure_after.clone();
    }
}

fn json_schema(path: &str) -> Result<Structure, String> {
    let schema = serde_json::from_str(&read(path)?);
    let schema = schema.map_err(|cause| format!("no JSON: {cause}"))?;
    Ok(Structure::JsonSchema(schema))
}

fn grammar(path: &str) -> Result<Structure, String> {
    Ok(Structure::Lark(read(path)?))
}

fn read(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|cause| cause.to_string())
}

fn not_empty(text: &str) -> Result<String, String> {
    match text {
        "" => Err("must not be empty".to_owned()),
        text => Ok(text.to_owned()),
    }
}
