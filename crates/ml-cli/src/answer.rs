//! Reading an answer as it comes.

use ml_backend::{Error, Generation, GenerationStream, Piece};

/// Hands each piece of `stream` to `show`. The outer error is `show`'s, which ends the generation;
/// the inner one is the model's.
pub(crate) fn follow(
    mut stream: GenerationStream,
    mut show: impl FnMut(&Piece) -> anyhow::Result<()>,
) -> anyhow::Result<Result<Generation, Error>> {
    for piece in &mut stream {
        match piece {
            Ok(piece) => show(&piece)?,
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(stream.generation().cloned().ok_or(Error::EngineEnded))
}
