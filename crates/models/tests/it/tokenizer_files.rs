//! What a tokenizer takes from the files of a model directory, in every spelling of them, and how
//! it says that a file is missing or broken.

use std::path::Path;

use models::tokenizer::Tokenizer;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::small_tokenizer::{directory, tokenizer_json, write};

fn open(files: &[(&str, Value)]) -> Tokenizer {
    Tokenizer::from_dir(directory(files).path()).expect("a valid tokenizer")
}

/// The one line that a broken directory gives.
fn problem(dir: &TempDir) -> String {
    let error = Tokenizer::from_dir(dir.path())
        .expect_err("a broken tokenizer")
        .to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

#[test]
fn a_missing_tokenizer_is_named_and_an_older_form_of_it_too() {
    let dir = tempfile::tempdir().unwrap();
    let error = problem(&dir);
    assert!(error.contains("tokenizer.json: not found"), "{error}");

    write(dir.path(), "tokenizer.model", "");
    let error = problem(&dir);
    assert!(
        error.contains("tokenizer.model") && error.contains("save_pretrained"),
        "{error}"
    );
}

#[test]
fn a_corrupt_file_is_one_line_with_its_name() {
    let whole = tokenizer_json().to_string();
    let cut = &whole[..whole.len() / 2];
    for broken in ["", "{", cut, "[]", r#"{"model": {"type": "Nonsense"}}"#] {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "tokenizer.json", broken);
        let error = problem(&dir);
        assert!(
            error.contains("tokenizer.json: not a valid tokenizer"),
            "{broken:?}: {error}"
        );
    }
    for name in [
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
    ] {
        for broken in ["{", "[]", "3"] {
            let dir = directory(&[]);
            write(dir.path(), name, broken);
            let error = problem(&dir);
            assert!(
                error.contains(&format!("{name}: not ")),
                "{broken:?}: {error}"
            );
        }
    }
    let dir = directory(&[]);
    std::fs::write(dir.path().join("chat_template.jinja"), b"\xff\xfe").unwrap();
    assert!(problem(&dir).contains("chat_template.jinja: not UTF-8"));
}

#[test]
fn the_limits_of_a_training_run_do_not_cut_a_text() {
    let ids = open(&[]).encode("hi hi", false).unwrap();
    assert_eq!(ids.len(), 5, "tokenizer.json says max_length 2");
}

#[test]
fn an_empty_directory_names_no_tokens_and_no_ends() {
    let tokenizer = open(&[]);
    assert_eq!(tokenizer.special_tokens().count(), 0);
    assert_eq!(tokenizer.eos_ids(), [0_u32; 0]);
    assert!(tokenizer.chat_template().unwrap().is_none());
}

#[test]
fn roles_are_read_as_text_and_as_objects() {
    let eos =
        json!({"__type": "AddedToken", "content": "</s>", "lstrip": false, "normalized": false});
    let config =
        json!({"bos_token": "<s>", "eos_token": eos, "pad_token": null, "image_token": "<img>"});
    let tokenizer = open(&[("tokenizer_config.json", config)]);
    assert_eq!(tokenizer.bos_token(), Some("<s>"));
    assert_eq!(tokenizer.eos_token(), Some("</s>"));
    assert_eq!(tokenizer.pad_token(), None);
    assert_eq!(tokenizer.special_token("image_token"), Some("<img>"));
    assert_eq!(tokenizer.eos_ids(), [2]);
}

#[test]
fn tokens_that_tokenizer_json_lacks_are_added_in_the_newer_spelling() {
    let added = json!({
        "263": {"content": "<b>", "special": true, "normalized": false},
        "262": {"content": "word", "special": false},
    });
    let config = json!({"eos_token": "<b>", "added_tokens_decoder": added});
    let ignored = json!({"bos_token": "<other>"});
    let tokenizer = open(&[
        ("tokenizer_config.json", config),
        ("special_tokens_map.json", ignored),
    ]);
    assert_eq!(
        tokenizer.token_id("word"),
        Some(262),
        "ids follow the order of the ids given"
    );
    assert_eq!(tokenizer.token_id("<b>"), Some(263));
    assert_eq!(
        tokenizer.bos_token(),
        None,
        "the older file counts only without the newer key"
    );
    assert_eq!(
        tokenizer.encode("hword<b>i", false).unwrap(),
        [4, 262, 263, 5]
    );
    assert_eq!(tokenizer.decode(&[4, 262, 263, 5], true).unwrap(), "hwordi");
    assert_eq!(tokenizer.vocab_size(), 264);
}

#[test]
fn tokens_that_tokenizer_json_lacks_are_added_in_the_older_spelling() {
    let map = json!({"bos_token": "<s>", "eos_token": {"content": "<end>"}, "additional_special_tokens": ["<x>"]});
    let added = json!({"<end>": 263, "plain": 262});
    let config = json!({"eos_token": "</s>"});
    let tokenizer = open(&[
        ("tokenizer_config.json", config),
        ("special_tokens_map.json", map),
        ("added_tokens.json", added),
    ]);
    assert_eq!(
        tokenizer.eos_token(),
        Some("<end>"),
        "the map wins over the config"
    );
    assert_eq!(tokenizer.eos_ids(), [263]);
    let ids = tokenizer.encode("hplain<end><x>", false).unwrap();
    assert_eq!(ids, [4, 262, 263, 264]);
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), "hplain");
}

#[test]
fn a_turn_end_ends_a_generation_only_where_the_checkpoint_uses_it() {
    let added = json!({
        "262": {"content": "<|im_end|>", "special": true},
        "263": {"content": "<end_of_turn>", "special": false},
        "264": {"content": "<|endoftext|>", "special": true},
    });
    let config = |more: Value| {
        let mut config = json!({"eos_token": "</s>", "added_tokens_decoder": added});
        config
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("one").clone());
        open(&[("tokenizer_config.json", config)])
    };
    assert_eq!(config(json!({})).eos_ids(), [2]);
    assert_eq!(
        config(json!({"pad_token": "<|endoftext|>"})).eos_ids(),
        [2, 264]
    );
    assert_eq!(
        config(json!({"eot_token": "<|im_end|>"})).eos_ids(),
        [2, 262]
    );
    assert_eq!(
        config(json!({"chat_template": "{{ m }}<|im_end|>"})).eos_ids(),
        [2, 262]
    );
    let plain_text = config(json!({"chat_template": "<end_of_turn>"}));
    assert_eq!(
        plain_text.eos_ids(),
        [2],
        "a token that is not special may stand for text"
    );
    // gpt-oss, whose template writes both, and whose turns go on behind `<|end|>`.
    let harmony = json!({
        "262": {"content": "<|end|>", "special": true},
        "263": {"content": "<|return|>", "special": true},
        "264": {"content": "<|call|>", "special": true},
    });
    let template = "{{ m }}<|end|>{{ c }}<|call|>{{ f }}<|return|>";
    let config = json!({"added_tokens_decoder": harmony, "chat_template": template});
    let opened = open(&[("tokenizer_config.json", config)]);
    assert_eq!(opened.eos_ids(), [263, 264]);
}

#[test]
fn a_chat_template_is_found_where_transformers_looks_first() {
    let source = |files: &[(&str, Value)]| {
        let dir = directory(&[]);
        for (name, content) in files {
            let text = content
                .as_str()
                .map_or_else(|| content.to_string(), str::to_owned);
            write(dir.path(), name, &text);
        }
        let tokenizer = Tokenizer::from_dir(dir.path()).expect("a valid tokenizer");
        let template = tokenizer
            .chat_template()
            .map_err(|error| error.to_string())?;
        Ok::<_, String>(template.map(|template| template.source.clone()))
    };
    let some = |source: &str| Ok(Some(source.to_owned()));
    let jinja = ("chat_template.jinja", json!("from jinja"));
    let config = (
        "tokenizer_config.json",
        json!({"chat_template": "from config"}),
    );
    let processor = (
        "chat_template.json",
        json!({"chat_template": "from processor"}),
    );
    let named = |names: &[&str]| {
        let items = names
            .iter()
            .map(|name| json!({"name": name, "template": format!("the {name}")}));
        (
            "tokenizer_config.json",
            json!({"chat_template": items.collect::<Value>()}),
        )
    };
    let rag = ("additional_chat_templates/rag.jinja", json!("the rag"));

    let all = [jinja.clone(), config.clone(), processor.clone()];
    assert_eq!(source(&all), some("from jinja"));
    assert_eq!(
        source(&[config.clone(), processor.clone()]),
        some("from config")
    );
    assert_eq!(source(&[processor]), some("from processor"));
    assert_eq!(
        source(&[named(&["tool_use", "default"])]),
        some("the default")
    );
    assert_eq!(source(&[jinja, rag.clone()]), some("from jinja"));

    let unclear = source(&[named(&["tool_use", "rag"])]).unwrap_err();
    assert!(
        unclear.contains("rag, tool_use") && unclear.contains("'default'"),
        "{unclear}"
    );
    let unclear = source(&[config, rag]).unwrap_err();
    assert!(unclear.contains("(rag)"), "{unclear}");
}

#[test]
fn a_template_of_another_form_is_an_error() {
    for wrong in [
        json!(3),
        json!([{"name": "default"}]),
        json!({"default": null}),
    ] {
        let dir = directory(&[("tokenizer_config.json", json!({"chat_template": wrong}))]);
        assert!(problem(&dir).contains("chat_template is neither"));
    }
    let none = open(&[("tokenizer_config.json", json!({"chat_template": null}))]);
    assert!(none.chat_template().unwrap().is_none());
}

/// A tokenizer whose `normalizer` is another one.
fn with_normalizer(normalizer: &Value) -> TempDir {
    let mut tokenizer = tokenizer_json();
    tokenizer["normalizer"] = normalizer.clone();
    let dir = tempfile::tempdir().expect("a temporary folder");
    write(dir.path(), "tokenizer.json", &tokenizer.to_string());
    dir
}

#[test]
fn a_table_that_points_outside_of_itself_is_one_line_and_no_panic() {
    let charsmap = |table: &str| json!({"type": "Precompiled", "precompiled_charsmap": table});
    // A trie of no node, one of four gigabytes that are not there, one of a node and two bytes.
    for table in ["AAAAAA==", "/////wAAAAA=", "BAAAAAAA", ""] {
        let error = problem(&with_normalizer(&charsmap(table)));
        assert!(
            error.contains("not a valid tokenizer (normalizer: precompiled_charsmap"),
            "{error}"
        );
    }
    // A trie of one node is what it says, but every text leaves it: its library panics.
    let error = problem(&with_normalizer(&charsmap("BAAAAAAAAAA=")));
    assert!(error.contains("the tokenizers library panicked"), "{error}");
}

#[test]
fn a_text_on_which_the_library_panics_is_an_error() {
    // The root's child for "a" is node 97, which is no leaf and has no children, as is right; the
    // root itself answers for every other byte, and the child of most is not in the table.
    let mut table = vec![0_u8; 4 + 4 * 98];
    table[..4].copy_from_slice(&(4 * 98_u32).to_le_bytes());
    let dir = with_normalizer(&json!({
        "type": "Precompiled", "precompiled_charsmap": base64(&table),
    }));
    let tokenizer = Tokenizer::from_dir(dir.path()).expect("a tokenizer that can read 'a'");
    assert!(tokenizer.encode("a", false).is_ok());
    for _ in 0..2 {
        let error = tokenizer.encode("héllo", false).unwrap_err().to_string();
        assert!(
            error.contains("cannot encode the text: the tokenizers library panicked"),
            "{error}"
        );
        assert!(!error.contains('\n'), "{error}");
    }
    assert!(tokenizer.encode("a", false).is_ok(), "it goes on");
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let mut bits = [0_u8; 3];
        bits[..three.len()].copy_from_slice(three);
        let bits = bits
            .iter()
            .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        for index in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * index) & 63) as usize];
            text.push(if index <= three.len() {
                char::from(letter)
            } else {
                '='
            });
        }
    }
    text
}

#[test]
fn replacements_that_multiply_a_text_are_refused() {
    let double = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
    let steps = |count| json!({"type": "Sequence", "normalizers": vec![double.clone(); count]});
    let error = problem(&with_normalizer(&steps(40)));
    assert!(error.contains("1024 times longer"), "{error}");
    let dir = with_normalizer(&steps(4));
    assert!(
        Tokenizer::from_dir(dir.path()).is_ok(),
        "a few steps are no harm"
    );
}

#[test]
fn steps_within_steps_without_end_are_an_error() {
    let mut nested = json!({"type": "Strip", "strip_left": true, "strip_right": true});
    for _ in 0..60 {
        nested = json!({"type": "Sequence", "normalizers": [nested]});
    }
    let dir = with_normalizer(&nested);
    let opened = std::thread::Builder::new().stack_size(2 << 20);
    let opened = opened.spawn(move || Tokenizer::from_dir(dir.path()).map(|_| ()));
    // Whether it is taken or refused: the process goes on.
    let _ = opened.expect("a thread").join().expect("no panic");

    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let dir = tempfile::tempdir().expect("a temporary folder");
    write(
        dir.path(),
        "tokenizer.json",
        &format!("{{\"normalizer\": {deep}}}"),
    );
    assert!(problem(&dir).contains("not a valid tokenizer"));
}

#[test]
fn floats_that_only_python_writes_are_read() {
    let dir = directory(&[]);
    for (name, content) in [
        (
            "tokenizer_config.json",
            r#"{"model_max_length": Infinity, "eos_token": "<s>"}"#,
        ),
        ("added_tokens.json", r#"{"<new NaN>": 262, "NaN": NaN}"#),
        (
            "chat_template.json",
            r#"{"x": -Infinity, "chat_template": "{{ NaN }}, Infinity"}"#,
        ),
    ] {
        write(dir.path(), name, content);
    }
    let tokenizer = Tokenizer::from_dir(dir.path()).unwrap();
    assert_eq!(tokenizer.eos_token(), Some("<s>"));
    assert_eq!(tokenizer.token_id("<new NaN>"), Some(262));
    let template = tokenizer.chat_template().unwrap().unwrap();
    assert_eq!(template.source, "{{ NaN }}, Infinity");

    // The scores of a unigram model, rewritten by a script.
    let mut json = tokenizer_json();
    json["model"] = json!({
        "type": "Unigram", "unk_id": 0, "byte_fallback": false,
        "vocab": [["<unk>", "LEAST"], ["h", -1.0], ["i", -2.0], ["hi", "LEAST"]],
    });
    let text = json.to_string().replace("\"LEAST\"", "-Infinity");
    write(dir.path(), "tokenizer.json", &text);
    std::fs::remove_file(dir.path().join("added_tokens.json")).unwrap();
    let tokenizer = Tokenizer::from_dir(dir.path()).unwrap();
    let ids = tokenizer.encode("hi", false).unwrap();
    assert_eq!(ids, [1_u32, 2], "the impossible token is not taken");
}

/// As transformers 5.24 with the same files: the ids of the bytes.
#[test]
fn split_special_tokens_makes_text_of_a_special_token() {
    let of = |config: Value| {
        let tokenizer = open(&[("tokenizer_config.json", config)]);
        tokenizer.encode("h<s>", false).unwrap()
    };
    let byte = |byte: u8| 6 + u32::from(byte);
    let split = of(json!({"split_special_tokens": true, "bos_token": "<s>"}));
    assert_eq!(split, [4, byte(b'<'), byte(b's'), byte(b'>')]);
    for config in [
        json!({}),
        json!({"split_special_tokens": false, "bos_token": "<s>"}),
    ] {
        assert_eq!(of(config), [4, 1]);
    }
}

/// Each text has at least as many tokens as its bytes over the longest token: texts that could be refused
/// by mistake are those of which a normalizer makes less, and of the longest tokens.
#[test]
fn no_token_stands_for_more_bytes_than_the_longest() {
    let demo = |name: &str| {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../assets/models")
            .join(name)
    };
    for (name, composes) in [("qwen3-demo", true), ("gemma3-demo", false)] {
        let tokenizer = Tokenizer::from_dir(&demo(name)).unwrap();
        let longest = tokenizer
            .longest_token()
            .expect("of both families it is known");
        let ids = 0..u32::try_from(tokenizer.vocab_size()).unwrap();
        let texts = ids.map(|id| tokenizer.decode(&[id], false).unwrap());
        let longest_text = texts.clone().max_by_key(String::len).unwrap();
        assert!(longest_text.len() <= longest && longest <= 4 * longest_text.len());
        assert!(composes || longest < 4 * longest_text.len());
        let shrinking = [
            "\u{212a}",
            "\u{3b9}\u{308}\u{341}",
            "\u{1112}\u{1161}\u{11ab}",
            "  ",
            "a",
        ];
        for text in texts
            .chain(shrinking.map(str::to_owned))
            .filter(|text| !text.is_empty())
        {
            let text = text.repeat(50);
            let count = tokenizer.encode(&text, false).unwrap().len();
            assert!(count * longest >= text.len(), "{text:?}: {count} tokens");
        }
    }
}

#[test]
fn of_a_tokenizer_that_may_lose_text_nothing_is_said() {
    let with = |change: &dyn Fn(&mut Value)| {
        let dir = directory(&[]);
        let mut json = tokenizer_json();
        change(&mut json);
        write(dir.path(), "tokenizer.json", &json.to_string());
        Tokenizer::from_dir(dir.path()).unwrap().longest_token()
    };
    assert_eq!(
        with(&|_| {}),
        Some(6),
        "the six characters of <0x00> and their like"
    );
    let strip = json!({"type": "Strip", "strip_left": true, "strip_right": true});
    let shorter = json!({"type": "Replace", "pattern": {"String": "    "}, "content": "▁"});
    let pattern = json!({"type": "Replace", "pattern": {"Regex": " +"}, "content": "▁"});
    for normalizer in [strip, shorter, pattern, json!({"type": "NFKC"})] {
        assert_eq!(with(&|json| json["normalizer"] = normalizer.clone()), None);
    }
    let removed = json!({"type": "Split", "pattern": {"String": " "}, "behavior": "Removed", "invert": false});
    for splitter in [removed, json!({"type": "WhitespaceSplit"})] {
        assert_eq!(with(&|json| json["pre_tokenizer"] = splitter.clone()), None);
    }
    assert_eq!(
        with(&|json| json["added_tokens"][0]["rstrip"] = json!(true)),
        None
    );
    assert_eq!(
        with(&|json| json["model"]["byte_fallback"] = json!(false)),
        None
    );
    assert_eq!(
        with(&|json| {
            json["model"]["vocab"]
                .as_object_mut()
                .unwrap()
                .remove("<0x20>");
        }),
        None
    );
}
