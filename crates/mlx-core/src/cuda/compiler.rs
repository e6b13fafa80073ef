//! The compiler: CUDA C++ in, machine code out.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libloading::Library;

use super::nvrtc::Nvrtc;
use super::{Architecture, headers};
use crate::{Error, Result};

/// The names of NVIDIA's run-time compiler, the newest first. Where MLX's CUDA library is in use,
/// one of them is loaded already.
const LIBRARIES: [&str; 2] = ["libnvrtc.so.13", "libnvrtc.so.12"];

/// NVIDIA's run-time compiler. It needs no GPU.
pub struct Compiler {
    nvrtc: Nvrtc,
    version: (i32, i32),
    /// The folder with CUDA's headers.
    include: Option<PathBuf>,
}

/// What was made of a source.
#[derive(Clone, Debug)]
pub struct Image {
    /// Machine code: a cubin.
    pub code: Vec<u8>,
    /// What the compiler said: warnings, and with `--ptxas-options=-v` the registers, the shared
    /// memory and the spills of each kernel.
    pub log: String,
}

impl Compiler {
    /// The compiler that MLX's CUDA library brought, or that the system has.
    ///
    /// # Errors
    /// [`Error::Native`] where there is none.
    pub fn loaded() -> Result<&'static Compiler> {
        static LOADED: OnceLock<Result<Compiler>> = OnceLock::new();
        let loaded = LOADED.get_or_init(|| {
            let mut first = None;
            for name in LIBRARIES {
                // SAFETY: the library's initializers do nothing but set up its own state.
                match unsafe { Library::new(name) } {
                    Ok(library) => return Compiler::new(library, name, None),
                    Err(error) => first = first.or(Some(error)),
                }
            }
            let reason = first.map(|error| error.to_string()).unwrap_or_default();
            Err(Error::Native(format!(
                "NVIDIA's run-time compiler was not found ({reason}); `pip install \
                 nvidia-cuda-nvrtc` and put its folder on LD_LIBRARY_PATH"
            )))
        });
        loaded.as_ref().map_err(Clone::clone)
    }

    /// The compiler in a file, such as `…/nvidia/cu13/lib/libnvrtc.so.13`.
    ///
    /// # Errors
    /// [`Error::Native`] where the file is not that library.
    pub fn open(file: &Path) -> Result<Compiler> {
        let name = file.display().to_string();
        // SAFETY: as in `loaded`.
        let library = unsafe { Library::new(file) }
            .map_err(|error| Error::Native(format!("cannot open {name}: {error}")))?;
        Compiler::new(library, &name, Some(file))
    }

    fn new(library: Library, name: &str, file: Option<&Path>) -> Result<Compiler> {
        let bad = |error: String| Error::Native(format!("{name} is not usable: {error}"));
        let nvrtc = Nvrtc::new(library).map_err(|error| bad(error.to_string()))?;
        Ok(Compiler {
            version: nvrtc.version().map_err(bad)?,
            nvrtc,
            include: headers::find(file),
        })
    }

    /// Its version, such as 13 and 0.
    pub fn version(&self) -> (i32, i32) {
        self.version
    }

    /// Compiles `source` for an architecture; `name` is for messages.
    ///
    /// # Errors
    /// [`Error::Compile`] with the compiler's log.
    pub fn compile(
        &self,
        name: &str,
        source: &str,
        architecture: Architecture,
        options: &[&str],
    ) -> Result<Image> {
        let failed = |reason: String| Error::Compile {
            module: name.to_owned(),
            reason,
        };
        let text = |text: &str| {
            CString::new(text).map_err(|_| failed("a NUL in the source or an option".to_owned()))
        };
        let mut all = vec![text(&format!("--gpu-architecture={architecture}"))?];
        if let Some(include) = &self.include {
            all.push(text(&format!("--include-path={}", include.display()))?);
        }
        for option in options {
            all.push(text(option)?);
        }
        let file = text(&format!("{name}.cu"))?;
        let (code, log) = self
            .nvrtc
            .compile(&file, &text(source)?, &all)
            .map_err(failed)?;
        Ok(Image { code, log })
    }
}

impl std::fmt::Debug for Compiler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiler")
            .field("version", &self.version)
            .field("include", &self.include)
            .finish_non_exhaustive()
    }
}
