//! The state that the steps of one build share.

use std::cell::OnceCell;

use crate::error::Result;
use crate::files;
use crate::host::Host;
use crate::layout::Layout;
use crate::pins::Pins;
use crate::python::Python;

/// One run of the native build.
pub(crate) struct Build<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) host: Host,
    pub(crate) pins: Pins,
    progress: &'a dyn Fn(&str),
    pub(crate) python: OnceCell<Python>,
}

impl<'a> Build<'a> {
    pub(crate) fn new(layout: &'a Layout, progress: &'a dyn Fn(&str)) -> Result<Self> {
        let pins = Pins::parse(&files::read(&layout.pins())?)?;
        Ok(Self {
            layout,
            host: Host::current(),
            pins,
            progress,
            python: OnceCell::new(),
        })
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
