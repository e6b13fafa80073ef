//! `config.json` and `generation_config.json`, as far as they can be read without weights.

use arch::{Config, Layer, Part};

use crate::check_refusal;
use crate::files::{sections, with_files};

pub(crate) const FILES: [&str; 2] = ["config.json", "generation_config.json"];

pub(crate) fn run(data: &[u8]) {
    with_files(sections(data, &FILES), |dir| match Config::read(dir) {
        Ok(config) => check(&config),
        Err(error) => check_refusal(&error),
    });
}

/// What the forward passes rely on.
fn check(config: &Config) {
    let model = &config.model;
    let in_range = |size: usize| (1..=i32::MAX as usize).contains(&size);
    assert!((1..=4096).contains(&model.layers.len()));
    assert!((1..=model.layers.len()).contains(&model.states.len()));
    for layer in &model.layers {
        let a = &layer.attention.part;
        let (queries, keys) = (a.heads * a.head_dim, a.kv_heads * a.head_dim);
        assert!(in_range(a.heads) && in_range(a.kv_heads));
        assert!(a.heads.is_multiple_of(a.kv_heads));
        assert!(a.head_dim.is_multiple_of(2) && a.head_dim <= 1 << 16);
        assert_eq!(a.q.rows, queries);
        assert!(a.k.iter().chain(&a.v).all(|linear| linear.rows == keys));
        assert!(a.k.is_some() || a.v.is_none());
        assert!(a.scale.is_finite() && a.softcap.is_none_or(|cap| cap > 0.0));
        assert!(a.rope < model.ropes.len() && a.state < model.states.len());
    }
    for (i, layer) in model.layers.iter().enumerate() {
        // Whoever reads a state comes behind the one that writes it.
        let a = &layer.attention.part;
        let writes =
            |l: &Layer<String>| l.attention.part.k.is_some() && l.attention.part.state == a.state;
        assert!(model.layers[..=i].iter().filter(|l| writes(l)).count() == 1);
        let keys = &model.states[a.state];
        assert_eq!((keys.heads, keys.head_dim), (a.kv_heads, a.head_dim));
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
            .all(|keys| keys.window.is_none_or(in_range))
    );
    assert!(model.norm.eps.is_finite());
    assert!(model.ropes.iter().all(|rope| rope.theta > 0.0));
}
