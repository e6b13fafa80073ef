//! Where checkpoints have the matrices of a mixture's experts.
//!
//! A description names them once for all experts, `layers.0.mlp.experts.gate_proj`. Files have them in
//! one of four ways: a matrix for each expert, as released; one tensor of all, as mlx-lm stores them; as
//! transformers 5 has them in memory, where gate and up are one tensor; or as gpt-oss does, whose one tensor has
//! their rows by turns, packed or, as floats, turned on its side.

/// What mlx-lm calls the module of the experts, in place of it or, in Gemma 4, below it.
const SWITCH: &str = "switch_mlp";
const SWITCH_BELOW: &str = "switch_glu";

/// Rows of a tensor that holds them for several matrices, one expert after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fused {
    /// The tensor, `[experts, parts * rows, columns]`.
    pub tensor: String,
    /// Which of its parts this is.
    pub part: usize,
    /// How many parts it has.
    pub parts: usize,
}

/// The matrix of one expert: `layers.0.mlp.experts.5.gate_proj`.
pub fn of_expert(path: &str, expert: usize) -> String {
    let (module, matrix) = split(path);
    format!("{module}.{expert}.{matrix}")
}

/// The stack as mlx-lm stores it, `[experts, rows, columns]`: `layers.0.mlp.switch_mlp.gate_proj`,
/// `layers.0.experts.switch_glu.gate_proj`, or, of gpt-oss, `layers.0.mlp.experts.gate_proj`.
pub fn stacked(path: &str) -> [String; 3] {
    let (module, matrix) = split(path);
    let above = module.rsplit_once('.').map_or("", |(above, _)| above);
    [
        format!("{above}.{SWITCH}.{matrix}"),
        format!("{module}.{SWITCH_BELOW}.{matrix}"),
        path.to_owned(),
    ]
}

/// The stack as transformers 5 has it: `layers.0.mlp.experts.gate_up_proj`, of which gate is the first
/// part and up the second, and `layers.0.mlp.experts.down_proj`.
pub fn fused(path: &str) -> Fused {
    let (module, matrix) = split(path);
    let (matrix, part, parts) = match matrix {
        "gate_proj" => ("gate_up_proj", 0, 2),
        "up_proj" => ("gate_up_proj", 1, 2),
        other => (other, 0, 1),
    };
    Fused {
        tensor: format!("{module}.{matrix}"),
        part,
        parts,
    }
}

impl Fused {
    /// Of gpt-oss as released, in place of the tensor: mxfp4's codes, two a byte,
    /// `[experts, parts * rows, columns / 32, 16]`.
    pub fn blocks(&self) -> String {
        format!("{}_blocks", self.tensor)
    }

    /// And their scales, `[experts, parts * rows, columns / 32]`.
    pub fn scales(&self) -> String {
        format!("{}_scales", self.tensor)
    }

    /// The biases of gpt-oss, `[experts, parts * rows]`.
    pub fn bias(&self) -> String {
        format!("{}_bias", self.tensor)
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}
