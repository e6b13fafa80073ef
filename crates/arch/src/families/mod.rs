//! One file a family: its keys and defaults on top, its layer below, the sizes that were published last.
//!
//! To add one: write its file, add it to [`ALL`], and make reference cases (`tools/reference`).

mod common;
mod gemma;
mod gemma2;
mod gemma3;
mod gemma3n;
mod gemma4;
mod gemma4_heads;
mod gemma4_published;
mod gpt_oss;
mod hybrid;
mod llama;
mod mistral;
mod mixture;
mod normal;
mod qwen2;
mod qwen2_moe;
mod qwen3;
mod qwen3_5;
mod qwen3_5_moe;
mod qwen3_moe;
mod qwen3_next;
mod vaultgemma;

use std::fmt;

use crate::fields::Fields;
use crate::{Config, Result};

/// Every family that can be run.
pub const ALL: &[&Family] = &[
    &qwen2::FAMILY,
    &qwen3::FAMILY,
    &qwen2_moe::FAMILY,
    &qwen3_moe::FAMILY,
    &qwen3_next::FAMILY,
    &qwen3_5::FAMILY,
    &qwen3_5_moe::FAMILY,
    &llama::FAMILY,
    &mistral::FAMILY,
    &gemma::FAMILY,
    &gemma2::FAMILY,
    &gemma3::FAMILY,
    &gemma3n::FAMILY,
    &gemma4::FAMILY,
    &vaultgemma::FAMILY,
    &gpt_oss::FAMILY,
];

/// A family of models.
pub struct Family {
    /// What it is called.
    pub name: &'static str,
    /// The values of `model_type` that its configurations have.
    pub model_types: &'static [&'static str],
    /// Published sizes: what each is called on a command line, and the keys of its `config.json` that
    /// matter, as JSON.
    pub published: &'static [(&'static str, &'static str)],
    /// Reads a configuration with one of its model types.
    pub(crate) read: fn(&Fields<'_>, &str) -> Result<Config>,
}

/// The family of configurations with this `model_type`.
pub fn of(model_type: &str) -> Option<&'static Family> {
    let mut all = ALL.iter().copied();
    all.find(|family| family.model_types.contains(&model_type))
}

/// Every `model_type` that can be run.
pub fn model_types() -> impl Iterator<Item = &'static str> {
    ALL.iter()
        .flat_map(|family| family.model_types.iter().copied())
}

impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Family {}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::{Part, json};

    /// Parameters of published models, from their cards; a tied head counts once.
    const PARAMETERS: &[(&str, u64)] = &[
        ("qwen2.5-0.5b", 494_032_768),
        ("qwen2.5-1.5b", 1_543_714_304),
        ("qwen2.5-7b", 7_615_616_512),
        ("qwen1.5-moe-a2.7b", 14_315_784_192),
        ("qwen3-30b-a3b", 30_532_122_624),
        ("qwen3-235b-a22b", 235_093_634_560),
        ("llama3.2-1b", 1_235_814_400),
        ("llama3.2-3b", 3_212_749_824),
        ("llama3.1-8b", 8_030_261_248),
        ("mistral-7b-v0.1", 7_241_732_096),
        ("mistral-7b-v0.3", 7_248_023_552),
        ("gemma-2b", 2_506_172_416),
        ("gemma-7b", 8_537_680_896),
        ("gemma2-2b", 2_614_341_888),
        ("gemma2-9b", 9_241_705_984),
        ("gemma2-27b", 27_227_128_320),
        ("qwen3-0.6b", 596_049_920),
        ("qwen3-8b", 8_190_735_360),
        ("gemma3-270m", 268_098_176),
        ("gemma3-1b", 999_885_952),
        // Of the text model, as transformers counts it.
        ("gemma3n-e2b", 4_435_182_688),
        ("gemma3n-e4b", 6_835_235_568),
        ("vaultgemma-1b", 1_038_741_120),
        ("embeddinggemma-300m", 302_863_104),
        ("qwen3-next-80b-a3b", 79_674_391_296),
        ("qwen3.5-0.8b", 752_393_024),
        ("qwen3.5-2b", 1_881_825_088),
        ("qwen3.5-4b", 4_205_751_296),
        ("qwen3.5-9b", 8_953_803_264),
        ("qwen3.5-27b", 26_895_998_464),
        ("qwen3.5-35b-a3b", 34_660_610_688),
        ("gemma4-e2b", 4_628_569_379),
        ("gemma4-e4b", 7_463_013_418),
        ("gemma4-12b", 11_907_350_320),
        ("gemma4-26b-a4b", 25_233_141_790),
        ("gemma4-31b", 30_697_345_340),
        ("gpt-oss-20b", 20_914_757_184),
        ("gpt-oss-120b", 116_829_156_672),
    ];

    fn published() -> Vec<(&'static str, Config)> {
        let all = ALL.iter().flat_map(|family| family.published);
        let read = |(name, text): &(&'static str, &str)| {
            let value = json::parse(text).unwrap();
            let config = Config::of_json(Path::new(name), &value).unwrap();
            (*name, config)
        };
        all.map(read).collect()
    }

    #[test]
    fn names_are_each_of_one_family() {
        let types: Vec<_> = model_types().collect();
        assert_eq!(types.iter().collect::<BTreeSet<_>>().len(), types.len());
        let names: Vec<_> = published().iter().map(|(name, _)| *name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    }

    #[test]
    fn published_models_have_their_number_of_parameters() {
        let all = published();
        for (name, expected) in PARAMETERS {
            let found = all.iter().find(|(other, _)| other == name);
            let (_, config) = found.unwrap_or_else(|| panic!("{name} is not published"));
            let model = &config.model;
            let head = match config.tie_word_embeddings {
                Some(false) => Part::Matrix(&model.head).parameters(),
                _ => 0,
            };
            let parameters: u64 = model.parts().map(|part| part.parameters()).sum();
            assert_eq!(parameters + head, *expected, "{name}");
        }
    }

    /// Of mixtures, the weights that a token uses, without the embedding as their cards count them where
    /// they say so: A2.7B, A3B (3.3 B), A22B.
    #[test]
    fn published_mixtures_have_their_number_of_active_parameters() {
        let all = published();
        for (name, least, most) in [
            ("qwen1.5-moe-a2.7b", 2_650_000_000, 2_750_000_000),
            ("qwen3-30b-a3b", 3_300_000_000, 3_400_000_000),
            ("qwen3-235b-a22b", 22_000_000_000, 22_300_000_000),
            ("qwen3-next-80b-a3b", 3_000_000_000, 4_000_000_000),
            ("qwen3.5-35b-a3b", 3_000_000_000, 4_000_000_000),
            // With the head, which is the embedding, counted twice.
            ("gemma4-26b-a4b", 4_500_000_000, 4_600_000_000),
            // 2.3 B, and the embedding twice.
            ("gemma4-e2b", 2_600_000_000, 2_800_000_000),
            // 3.61 and 5.13 B, with one of embedding and head.
            ("gpt-oss-20b", 4_170_000_000, 4_200_000_000),
            ("gpt-oss-120b", 5_690_000_000, 5_720_000_000),
        ] {
            let (_, config) = all.iter().find(|(other, _)| *other == name).unwrap();
            let model = &config.model;
            let parameters: u64 = model.parts().map(|part| part.parameters()).sum();
            let head = Part::Matrix(&model.head).parameters();
            let active = parameters + head - model.idle_parameters();
            assert!((least..most).contains(&active), "{name}: {active}");
        }
    }

    #[test]
    fn every_tensor_of_a_model_has_a_name_of_its_own() {
        for (name, config) in published() {
            let mut seen = BTreeSet::new();
            for part in config.model.parts() {
                let tensor = match part {
                    Part::Matrix(linear) => &linear.weight,
                    Part::Biases(linear) => linear.bias.as_ref().unwrap(),
                    Part::Bias(name, _) | Part::Heads(name, _) | Part::Factors(name, _) => name,
                    Part::Convolution(convolution) => &convolution.weight,
                    Part::Norm(norm) => &norm.weight,
                };
                assert!(seen.insert(tensor.clone()), "{name}: {tensor} twice");
            }
        }
    }
}
