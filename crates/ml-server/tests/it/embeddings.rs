//! `/v1/embeddings` and `/rerank`.

use ml_backend::{EmbedOptions, RerankOptions};
use serde_json::{Value, json};

use crate::client::post;
use crate::{direct, shared};

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
fn the_best_document_comes_first() {
    let documents = ["garden", "17 + 25", "hello there"];
    // The demo models are no rerankers; what is looked at here is the way, not the score.
    let scores = direct().rerank("What is 17 + 25?", &documents, &RerankOptions::new());
    let request = json!({
        "query": "What is 17 + 25?", "documents": ["garden", {"text": "17 + 25"}, "hello there"], "top_n": 2,
        "return_documents": true,
    });
    let reply = post(shared(), "/v1/rerank", &request);
    let Ok(scores) = scores else {
        // A tokenizer without yes and no.
        assert_eq!(reply.status, 422, "{reply:?}");
        return;
    };
    let mut expected: Vec<_> = scores.into_iter().enumerate().collect();
    expected.sort_by(|one, other| other.1.total_cmp(&one.1));
    let answer = reply.ok();
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 2);
    for (result, (index, score)) in results.iter().zip(expected) {
        assert_eq!(result["index"], index);
        assert_eq!(result["relevance_score"].as_f64().unwrap() as f32, score);
        assert_eq!(result["document"]["text"], documents[index]);
    }
}
