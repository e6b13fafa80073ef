//! The state that the steps of one build share.

use std::cell::OnceCell;

use crate::cache::Cache;
use crate::error::Result;
use crate::machine::Machine;
use crate::pins::Pins;
use crate::python::Python;

/// One run of the native build.
pub(crate) struct Build<'a> {
    pub(crate) cache: Cache,
    /// The machine that builds.
    pub(crate) host: Machine,
    pub(crate) pins: Pins,
    progress: &'a dyn Fn(&str),
    pub(crate) python: OnceCell<Python>,
}

impl<'a> Build<'a> {
    /// A build of what this project pins, in the user's cache.
    pub(crate) fn new(progress: &'a dyn Fn(&str)) -> Result<Self> {
        Ok(Self::with(
            Pins::of_this_project()?,
            Cache::of_user()?,
            progress,
        ))
    }

    pub(crate) fn with(pins: Pins, cache: Cache, progress: &'a dyn Fn(&str)) -> Self {
        Self {
            cache,
            host: Machine::current(),
            pins,
            progress,
            python: OnceCell::new(),
        }
    }

    /// Reports what is being done.
    pub(crate) fn say(&self, line: impl AsRef<str>) {
        (self.progress)(line.as_ref());
    }

    /// The Python to use; looked for only when something must be fetched or unpacked.
    pub(crate) fn python(&self) -> Result<&Python> {
        if let Some(python) = self.python.get() {
            return Ok(python);
        }
        let python = Python::find()?;
        Ok(self.python.get_or_init(|| python))
    }
}
