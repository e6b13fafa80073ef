//! Answers under the schemas of `schemas.json`, whose good and bad values `jsonschema` confirms first.

use serde_json::Value;

use super::*;

struct Case {
    structure: Structure,
    validator: jsonschema::Validator,
    good: Vec<Value>,
    bad: Vec<Value>,
}

fn cases() -> Vec<Case> {
    let cases: Vec<Value> = serde_json::from_str(include_str!("schemas.json")).unwrap();
    let case = |case: &Value| {
        let schema = &case["schema"];
        let values = |key: &str| case[key].as_array().unwrap().clone();
        Case {
            structure: Structure::JsonSchema(schema.clone()),
            validator: validator(schema),
            good: values("good"),
            bad: values("bad"),
        }
    };
    cases.iter().map(case).collect()
}

/// With formats, which it would leave out from draft 2019-09 on.
pub(super) fn validator(schema: &Value) -> jsonschema::Validator {
    let options = jsonschema::options().should_validate_formats(true);
    options.build(schema).unwrap()
}

#[test]
fn what_is_valid_may_be_said_and_what_is_not_may_not() {
    for model in models() {
        for Case {
            structure,
            validator,
            good,
            bad,
        } in cases()
        {
            for value in good {
                assert!(validator.is_valid(&value), "{structure:?} {value}");
                let spaced = format!("{value:#}");
                for text in [value.to_string(), spaced] {
                    assert!(model.takes(&structure, &text), "{structure:?} {text}");
                }
            }
            for value in bad {
                assert!(!validator.is_valid(&value), "{structure:?} {value}");
                assert!(
                    !model.takes(&structure, &value.to_string()),
                    "{structure:?} {value}"
                );
            }
        }
    }
}

#[test]
fn what_a_model_that_knows_nothing_ends_is_valid() {
    let (mut ended, mut all) = (0, 0);
    for model in models() {
        for Case {
            structure,
            validator,
            ..
        } in cases()
        {
            for seed in 0..6 {
                let answer = model.answer(&structure, seed);
                all += 1;
                if !answer.ended {
                    continue;
                }
                ended += 1;
                let text = &answer.text;
                let value: Value =
                    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
                assert!(validator.is_valid(&value), "{structure:?} {text}");
            }
        }
    }
    assert!(ended * 5 >= all * 4, "{ended} of {all} ended");
}

/// A reader of draft 4 takes `-0` for a fraction, and a double is no multiple where it is rounded.
#[test]
fn whole_numbers_and_multiples_are_those_of_every_reader() {
    let whole = serde_json::json!({ "$schema": "http://json-schema.org/draft-04/schema#", "type": "integer" });
    let multiple = serde_json::json!({ "type": "number", "multipleOf": 1.5 });
    let [model, _] = models();
    for (schema, bad) in [(whole, "-0"), (multiple, "949774458477178374")] {
        let structure = Structure::JsonSchema(schema.clone());
        let validator = validator(&schema);
        assert!(!validator.is_valid(&serde_json::from_str(bad).unwrap()));
        assert!(!model.takes(&structure, bad));
        assert!(model.takes(&structure, "-123"));
        for seed in 0..200 {
            let answer = model.answer(&structure, seed);
            let value = serde_json::from_str(&answer.text).unwrap();
            assert!(validator.is_valid(&value), "{schema} {}", answer.text);
        }
    }
}

#[test]
fn a_draw_is_the_same_again_beside_others_that_went_before() {
    let [model, _] = models();
    let cases = cases();
    let fresh = || {
        let [model, _] = models();
        model
    };
    for case in cases.iter().take(8) {
        let answer = model.answer(&case.structure, 3);
        let _ = model.answer(&case.structure, 4);
        assert_eq!(model.answer(&case.structure, 3), answer);
        assert_eq!(fresh().answer(&case.structure, 3), answer);
    }
}

#[test]
fn other_forms_hold_too() {
    let lark = r#"
        start: greeting " " NAME "!"
        greeting: "Hello" | "Good day"
        NAME: /[A-Z][a-z]{1,8}/
    "#;
    let texts = ["yes", "no", "maybe \"so\"/\n+?", "é"];
    let texts = texts.map(str::to_owned).to_vec();
    let is_date = |text: &str| {
        let parts: Vec<_> = text.split('-').collect();
        let digits = |part: &str, n| part.len() == n && part.bytes().all(|b| b.is_ascii_digit());
        parts.len() == 3 && digits(parts[0], 4) && digits(parts[1], 2) && digits(parts[2], 2)
    };
    let is_greeting = |text: &str| {
        let name = text
            .strip_prefix("Hello ")
            .or(text.strip_prefix("Good day "));
        let name = name.and_then(|name| name.strip_suffix('!'));
        name.is_some_and(|name| {
            name.starts_with(|c: char| c.is_ascii_uppercase())
                && (2..=9).contains(&name.len())
                && name[1..].bytes().all(|b| b.is_ascii_lowercase())
        })
    };
    let is_object =
        |text: &str| serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object());
    let is_one = {
        let texts = texts.clone();
        move |text: &str| texts.iter().any(|one| one == text)
    };
    type Is<'a> = &'a dyn Fn(&str) -> bool;
    let forms: [(Structure, Is, usize); 4] = [
        (
            Structure::Regex(r"\d{4}-\d\d-\d\d".to_owned()),
            &is_date,
            20,
        ),
        (Structure::Lark(lark.to_owned()), &is_greeting, 20),
        (Structure::OneOf(texts), &is_one, 20),
        (Structure::JsonObject, &is_object, 1),
    ];
    for model in models() {
        for (structure, is, least) in &forms {
            let answers = (0..20).map(|seed| model.answer(structure, seed));
            let ended: Vec<_> = answers.filter(|answer| answer.ended).collect();
            assert!(ended.len() >= *least, "{structure:?} {}", ended.len());
            for answer in ended {
                assert!(is(&answer.text), "{structure:?} {}", answer.text);
            }
        }
    }
}
