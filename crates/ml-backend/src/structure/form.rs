//! What answers are held to: a structure that was asked for, or calls of tools.

use super::Structure;
use crate::chat::answer::forced::Calls;

/// What an answer has to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Form {
    Asked(Structure),
    Calls(Calls),
}

impl Form {
    /// What its texts are, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Asked(structure) => structure.kind(),
            Self::Calls(_) => "form of calls",
        }
    }

    /// Whether its numbers stand in JSON.
    pub(super) fn is_json(&self) -> bool {
        match self {
            Self::Asked(structure) => structure.is_json(),
            Self::Calls(calls) => calls.json,
        }
    }
}

impl From<Structure> for Form {
    fn from(structure: Structure) -> Self {
        Self::Asked(structure)
    }
}
