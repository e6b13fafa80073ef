//! The published sizes of Gemma 4: the layers that E2B names have a pattern of five, all others that of six.

macro_rules! five {
    () => {
        r#""sliding_attention", "sliding_attention", "sliding_attention", "sliding_attention", "full_attention""#
    };
}

pub(super) const PUBLISHED: &[(&str, &str)] = &[
    (
        "gemma4-e2b",
        concat!(
            r#"{"model_type": "gemma4_text", "hidden_size": 1536, "num_hidden_layers": 35, "intermediate_size": 6144,
            "use_double_wide_mlp": true, "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256,
            "global_head_dim": 512, "num_kv_shared_layers": 20, "hidden_size_per_layer_input": 256,
            "vocab_size": 262144, "vocab_size_per_layer_input": 262144, "sliding_window": 512,
            "final_logit_softcapping": 30.0, "max_position_embeddings": 131072, "layer_types": ["#,
            five!(),
            ",",
            five!(),
            ",",
            five!(),
            ",",
            five!(),
            ",",
            five!(),
            ",",
            five!(),
            ",",
            five!(),
            "]}"
        ),
    ),
    (
        "gemma4-e4b",
        r#"{"model_type": "gemma4_text", "hidden_size": 2560, "num_hidden_layers": 42, "intermediate_size": 10240,
            "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 256, "global_head_dim": 512,
            "num_kv_shared_layers": 18, "hidden_size_per_layer_input": 256, "vocab_size": 262144,
            "vocab_size_per_layer_input": 262144, "sliding_window": 512, "final_logit_softcapping": 30.0,
            "max_position_embeddings": 131072}"#,
    ),
    (
        "gemma4-12b",
        r#"{"model_type": "gemma4_unified_text", "hidden_size": 3840, "num_hidden_layers": 48,
            "intermediate_size": 15360, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256,
            "global_head_dim": 512, "num_global_key_value_heads": 1, "attention_k_eq_v": true,
            "use_bidirectional_attention": "vision", "vocab_size": 262144, "sliding_window": 1024,
            "final_logit_softcapping": 30.0, "max_position_embeddings": 262144}"#,
    ),
    (
        "gemma4-26b-a4b",
        r#"{"model_type": "gemma4_text", "hidden_size": 2816, "num_hidden_layers": 30, "intermediate_size": 2112,
            "enable_moe_block": true, "num_experts": 128, "top_k_experts": 8, "moe_intermediate_size": 704,
            "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256, "global_head_dim": 512,
            "num_global_key_value_heads": 2, "attention_k_eq_v": true, "hidden_size_per_layer_input": 0,
            "vocab_size": 262144, "sliding_window": 1024, "final_logit_softcapping": 30.0,
            "max_position_embeddings": 262144}"#,
    ),
    (
        "gemma4-31b",
        r#"{"model_type": "gemma4_text", "hidden_size": 5376, "num_hidden_layers": 60, "intermediate_size": 21504,
            "num_attention_heads": 32, "num_key_value_heads": 16, "head_dim": 256, "global_head_dim": 512,
            "num_global_key_value_heads": 4, "attention_k_eq_v": true, "hidden_size_per_layer_input": 0,
            "vocab_size": 262144, "sliding_window": 1024, "final_logit_softcapping": 30.0,
            "max_position_embeddings": 262144}"#,
    ),
];
