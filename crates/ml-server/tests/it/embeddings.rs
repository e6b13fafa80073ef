//! `/v1/embeddings` and `/rerank`.

use std::net::SocketAddr;
use std::path::Path;

use ml_backend::{Device, Dtype, EmbedOptions, MlxBackend, Progress};
use ml_server::{Config, NamedModel};
use serde_json::{Value, json};

use crate::client::post;
use crate::{direct, serve, shared};

fn vectors(answer: &Value) -> Vec<Vec<f32>> {
    let vector = |(at, entry): (usize, &Value)| {
        assert_eq!(entry["index"], at);
        assert_eq!(entry["object"], "embedding");
        match &entry["embedding"] {
            Value::String(text) => floats(text),
            numbers => serde_json::from_value(numbers.clone()).unwrap(),
        }
    };
    answer["data"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
        .map(vector)
        .collect()
}

/// Base64 read back, by the alphabet of RFC 4648.
fn floats(text: &str) -> Vec<f32> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => panic!("{text}"),
    };
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        bits = bits << 6 | u32::from(digit(byte));
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    let numbers = bytes.chunks_exact(4);
    numbers
        .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
        .collect()
}

#[test]
fn vectors_are_those_of_the_backend_to_the_bit() {
    let texts = ["What is 17 + 25?", "hello"];
    let expected = direct().embed(&texts, &EmbedOptions::new()).unwrap();
    for format in ["float", "base64"] {
        let request = json!({"model": "qwen3-demo", "input": texts, "encoding_format": format});
        let answer = post(shared(), "/v1/embeddings", &request).ok();
        assert_eq!(vectors(&answer), expected, "{format}");
        let tokens: usize = texts
            .iter()
            .map(|text| direct().encode(text).unwrap().len())
            .sum();
        assert_eq!(answer["usage"]["prompt_tokens"], tokens);
    }
}

#[test]
fn input_comes_in_four_ways_and_dimensions_are_cut() {
    let embed = |input: Value, dimensions: Value| {
        let request = json!({"input": input, "dimensions": dimensions});
        vectors(&post(shared(), "/v1/embeddings", &request).ok())
    };
    let ids = direct().encode("hello").unwrap();
    let whole = embed("hello".into(), Value::Null);
    assert_eq!(embed(json!(ids), Value::Null), whole);
    assert_eq!(
        embed(json!([ids, ids]), Value::Null),
        [&whole[..], &whole].concat()
    );
    let cut = embed("hello".into(), 16.into());
    let expected = direct()
        .embed(&["hello"], &EmbedOptions::new().dimensions(16))
        .unwrap();
    assert_eq!((cut[0].len(), &cut), (16, &expected));
    let large = post(
        shared(),
        "/v1/embeddings",
        &json!({"input": "hello", "dimensions": 100_000}),
    );
    assert_eq!(
        (large.status, &large.json()["error"]["param"]),
        (400, &"dimensions".into())
    );
}

#[test]
fn a_batch_has_of_each_text_what_it_gives_alone() {
    let lengths = [1, 3, 40, 9, 2, 17, 40, 5, 120, 1, 8, 23];
    let texts: Vec<String> = lengths.iter().map(|n| "garden ".repeat(*n)).collect();
    let ids: Vec<Vec<u32>> = texts
        .iter()
        .map(|text| direct().encode(text).unwrap())
        .collect();
    let alone: Vec<Vec<f32>> = texts
        .iter()
        .flat_map(|text| direct().embed(&[text], &EmbedOptions::new()).unwrap())
        .collect();
    for input in [json!(texts), json!(ids)] {
        let answer = post(shared(), "/v1/embeddings", &json!({"input": input})).ok();
        assert_eq!(vectors(&answer), alone);
        let tokens: usize = ids.iter().map(Vec::len).sum();
        assert_eq!(answer["usage"]["total_tokens"], tokens);
    }
    // One that cannot be embedded is an error of all, and the next request is served.
    let long = json!({"input": ["garden", vec!["a"; 200_000].join(" ")], "dimensions": 100_000});
    assert_eq!(post(shared(), "/v1/embeddings", &long).status, 400);
    assert_eq!(
        vectors(&post(shared(), "/v1/embeddings", &json!({"input": "garden "})).ok()),
        alone[..1]
    );
}

/// A small model that was not trained at all, with what transformers computes of it in float64
/// (`tools/reference/embeddings.py`).
fn reranker() -> (SocketAddr, Value) {
    let fixture =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../ml-backend/tests/fixtures/embedding");
    let model = NamedModel {
        name: "reranker".to_owned(),
        dir: fixture.join("model"),
    };
    let load = |dir: &Path, _: &mut dyn FnMut(Progress)| {
        let builder = MlxBackend::builder().device(Device::Cpu);
        builder.dtype(Some(Dtype::Float32)).load(dir)
    };
    let cases = std::fs::read_to_string(fixture.join("cases.json")).unwrap();
    let server = serve(Config::new(vec![model], load));
    (server.address, serde_json::from_str(&cases).unwrap())
}

#[test]
fn the_best_document_comes_first_with_the_score_that_transformers_gives() {
    let (address, cases) = reranker();
    let texts = cases["texts"].as_array().unwrap();
    for (case, path) in cases["rerank"]
        .as_array()
        .unwrap()
        .iter()
        .zip(["/rerank", "/v1/rerank"])
    {
        // Jina's form and Cohere's.
        let mut documents = texts[1..].to_vec();
        documents[1] = json!({"text": documents[1]});
        let mut request = json!({
            "model": "reranker", "query": texts[0], "documents": documents, "instruction": case["instruction"],
        });
        let answer = post(address, path, &request).ok();
        let mut expected: Vec<_> = case["scores"]
            .as_array()
            .unwrap()
            .iter()
            .enumerate()
            .collect();
        expected.sort_by(|a, b| b.1.as_f64().unwrap().total_cmp(&a.1.as_f64().unwrap()));
        let results = answer["results"].as_array().unwrap();
        assert_eq!(results.len(), expected.len());
        for (result, (index, score)) in results.iter().zip(&expected) {
            assert_eq!(result["index"], *index);
            let found = result["relevance_score"].as_f64().unwrap();
            assert!(
                (found - score.as_f64().unwrap()).abs() < 1e-4,
                "{result} {score}"
            );
            assert_eq!(result.get("document"), None);
        }
        assert!(answer["usage"]["total_tokens"].as_u64().unwrap() > 0);
        request["top_n"] = 1.into();
        request["return_documents"] = true.into();
        let best = post(address, path, &request).ok();
        let [result] = &best["results"].as_array().unwrap()[..] else {
            panic!("{best}")
        };
        assert_eq!(result["document"]["text"], texts[1 + expected[0].0]);
    }
    // A model whose vocabulary has no yes and no.
    let request = json!({"query": "a", "documents": ["b"]});
    let refused = post(shared(), "/rerank", &request);
    assert_eq!(
        (refused.status, &refused.json()["error"]["code"]),
        (422, &"unsupported_by_model".into())
    );
}
