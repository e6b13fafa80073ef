//! `config.json` and `generation_config.json`, as far as they can be read without weights, and what says how a model
//! embeds.

use arch::{Attention, Config, Delta, Model, Part, State};

use ml_backend::check_embedding_files;

use crate::check_refusal;
use crate::files::{sections, with_files};

pub(crate) const FILES: [&str; 2] = ["config.json", "generation_config.json"];

/// `modules.json`, its neighbours, and what is in the folders that seeds name.
pub(crate) const EMBEDDING_FILES: [&str; 7] = [
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "tokenizer_config.json",
    "1_Pooling/config.json",
    "2_Dense/config.json",
    "2_Dense/model.safetensors",
];

/// Features of the states that poolings and dense layers are asked for.
const HIDDEN: usize = 16;

pub(crate) fn run(data: &[u8]) {
    let names = [&FILES[..], &EMBEDDING_FILES].concat();
    let files = sections(data, &names);
    let embeds = files.iter().any(|(name, _)| EMBEDDING_FILES.contains(name));
    with_files(files, |dir| {
        match Config::read(dir) {
            Ok(config) => check(&config),
            Err(error) => check_refusal(&error),
        }
        if embeds && let Err(error) = check_embedding_files(dir, HIDDEN) {
            check_refusal(&error);
        }
    });
}

/// What the forward passes rely on.
fn check(config: &Config) {
    let model = &config.model;
    let in_range = |size: usize| (1..=i32::MAX as usize).contains(&size);
    assert!((1..=4096).contains(&model.layers.len()));
    assert!((1..=model.layers.len()).contains(&model.states.len()));
    for layer in &model.layers {
        if let Some(delta) = layer.delta() {
            check_delta(model, delta);
        }
    }
    for a in model.attentions() {
        let (queries, keys) = (a.heads * a.head_dim, a.kv_heads * a.head_dim);
        assert!(in_range(a.heads) && in_range(a.kv_heads));
        assert!(a.heads.is_multiple_of(a.kv_heads));
        assert!(a.head_dim.is_multiple_of(2) && a.head_dim <= 1 << 16);
        let queries = queries * (1 + usize::from(a.gated));
        assert_eq!(a.q.rows, queries);
        assert!(a.k.iter().chain(&a.v).all(|linear| linear.rows == keys));
        assert!(a.k.is_some() || a.v.is_none());
        assert!(a.scale.is_finite() && a.softcap.is_none_or(|cap| cap > 0.0));
        assert!(a.rope < model.ropes.len() && a.state < model.states.len());
    }
    for (i, a) in model.attentions().enumerate() {
        // Whoever reads a state comes behind the one that writes it.
        let writes = |other: &&Attention<String>| other.k.is_some() && other.state == a.state;
        assert!(model.attentions().take(i + 1).filter(writes).count() == 1);
        let keys = model.states[a.state].keys();
        assert!(keys.is_some_and(|keys| (keys.heads, keys.head_dim) == (a.kv_heads, a.head_dim)));
    }
    for layer in &model.layers {
        if let Some(experts) = layer.mlp.part.experts() {
            assert!(in_range(experts.count) && (1..=experts.count).contains(&experts.top));
            let stacks = experts.each.linears();
            assert!(
                stacks
                    .iter()
                    .all(|stack| stack.experts == Some(experts.count))
            );
            assert_eq!(experts.router.rows, experts.count);
        }
    }
    for linear in model.parts().filter_map(|part| match part {
        Part::Matrix(linear) => Some(linear),
        _ => None,
    }) {
        assert!(in_range(linear.columns) && linear.rows > 0);
    }
    assert!(
        model
            .states
            .iter()
            .all(|state| state.window().is_none_or(in_range))
    );
    assert!(model.norm.eps.is_finite());
    assert!(model.ropes.iter().all(|rope| rope.theta > 0.0));
}

/// The same of a gated delta net.
fn check_delta(model: &Model<String>, delta: &Delta<String>) {
    let (keys, values) = (
        delta.key_heads * delta.key_dim,
        delta.value_heads * delta.value_dim,
    );
    assert!(keys > 0 && delta.value_heads.is_multiple_of(delta.key_heads));
    assert_eq!(delta.convolution.channels, 2 * keys + values);
    let rows = delta.inputs.linears().into_iter().map(|linear| linear.rows);
    assert_eq!(
        rows.sum::<usize>(),
        2 * keys + 2 * values + 2 * delta.value_heads
    );
    let Some(State::Recurrent(state)) = model.states.get(delta.state) else {
        panic!("a gated delta net has a recurrent state");
    };
    assert_eq!(state.tail + 1, delta.convolution.width);
    assert!(state.tail > 0 && state.slot_bytes(4) < u64::MAX);
}
