//! What models are made of. Each holds its weights, made from a [`Source`](crate::weights::Source) as a
//! description of [`arch`] says.

mod altup;
mod attention;
mod block;
mod both;
mod delta;
mod embedding;
mod experts;
mod fused;
mod inputs;
mod linear;
mod mixer;
mod mlp;
mod norm;
mod own_input;
mod pace;
mod projections;
mod rope;
mod stack;
mod stacked;
mod streams;

pub(crate) use altup::AltUp;
pub(crate) use attention::Attention;
pub(crate) use block::DecoderBlock;
pub(crate) use both::Both;
pub(crate) use delta::DeltaNet;
pub(crate) use embedding::Embedding;
pub(crate) use experts::Experts;
pub(crate) use fused::{Ends, Fused};
pub(crate) use inputs::Inputs;
pub(crate) use linear::Linear;
pub(crate) use mixer::Mixer;
pub(crate) use mlp::{GatedMlp, Mlp};
pub(crate) use norm::RmsNorm;
pub(crate) use own_input::{OwnInput, PerLayerInputs};
pub(crate) use projections::Projections;
pub(crate) use rope::RotaryEmbedding;
pub(crate) use stack::{Pass, Stack};
pub(crate) use streams::Streams;
