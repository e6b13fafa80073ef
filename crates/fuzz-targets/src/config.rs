//! `config.json` and `generation_config.json`, as far as they can be read without weights.

use models::config::{Config, LayerType};

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
fn check(c: &Config) {
    let sizes = [
        c.hidden_size,
        c.intermediate_size,
        c.num_attention_heads,
        c.num_key_value_heads,
        c.head_dim,
        c.vocab_size,
        c.num_layers(),
    ];
    let in_range = |size: &usize| (1..=i32::MAX as usize).contains(size);
    assert!(sizes.iter().all(in_range), "{sizes:?}");
    assert!(c.num_attention_heads.is_multiple_of(c.num_key_value_heads));
    assert!(c.head_dim.is_multiple_of(2) && c.head_dim <= 1 << 16);
    assert!(c.num_layers() <= 4096);
    let sliding = c.layer_types.contains(&LayerType::Sliding);
    assert!(!sliding || c.sliding_window.as_ref().is_some_and(in_range));
    assert!(c.rms_norm_eps.is_finite() && c.attention_scale.is_finite());
    assert!(c.rope.theta > 0.0 && c.local_rope.theta > 0.0);
}
