//! Answers of a given form.

use std::fs;

use serde_json::Value;

use crate::{failure, stdout, with_demo};

#[test]
fn an_answer_has_the_form_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let schema = dir.path().join("sum.json");
    let sum = r#"{"type":"object","properties":{"sum":{"type":"integer","minimum":0,"maximum":99}},"required":["sum"],"additionalProperties":false}"#;
    fs::write(&schema, sum).unwrap();
    let grammar = dir.path().join("sum.lark");
    fs::write(
        &grammar,
        "start: \"The sum is \" NUMBER\nNUMBER: /[0-9]{2}/\n",
    )
    .unwrap();
    let ask = |form: &[&str]| {
        let prompt = ["--prompt", "What is 17 + 25?", "--temp", "0"];
        stdout(with_demo("generate").args(prompt).args(form))
    };
    assert_eq!(ask(&["--regex", r"\d+"]), "42\n");
    let answer: Value =
        serde_json::from_str(&ask(&["--json-schema", schema.to_str().unwrap()])).unwrap();
    assert!(
        answer["sum"].as_u64().is_some_and(|sum| sum < 100),
        "{answer}"
    );
    let said = ask(&["--grammar", grammar.to_str().unwrap()]);
    let digits = said.strip_prefix("The sum is ").map(str::trim_end);
    assert!(
        digits.is_some_and(|d| d.len() == 2 && d.parse::<u8>().is_ok()),
        "{said}"
    );
}

#[test]
fn a_form_that_cannot_be_held_to_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let schema = dir.path().join("set.json");
    fs::write(&schema, r#"{"type":"array","uniqueItems":true}"#).unwrap();
    let refused = |form: &[&str]| failure(with_demo("generate").args(["--prompt", "p"]).args(form));
    let error = refused(&["--json-schema", schema.to_str().unwrap()]);
    assert!(error.contains("`uniqueItems` (at #)"), "{error}");
    let error = refused(&["--regex", "("]);
    assert!(error.contains("regular expression"), "{error}");
}
