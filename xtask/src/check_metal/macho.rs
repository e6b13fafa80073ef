//! What a library or a program for macOS says of itself.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use build_scripts::Version;
use object::read::macho::{LoadCommandVariant, MachHeader, MachOFile64};
use object::read::{ImportFlags, NameOrOrdinal};
use object::{Architecture, Endianness, Object, ObjectKind, macho};

/// A dynamic library for arm64, or a program.
pub(crate) struct Library<'data>(MachOFile64<'data, Endianness>);

/// A symbol that a library takes from another one.
pub(crate) struct Import {
    pub(crate) name: String,
    /// The library; empty if it names none.
    pub(crate) from: String,
    /// A weak C++ symbol, such as an inline function, is looked for everywhere by design: the
    /// library has a copy of its own.
    pub(crate) everywhere: bool,
}

impl<'data> Library<'data> {
    pub(crate) fn parse(bytes: &'data [u8]) -> Result<Self> {
        Self::of_kind(bytes, ObjectKind::Dynamic).context("not a dynamic library for arm64")
    }

    pub(crate) fn program(bytes: &'data [u8]) -> Result<Self> {
        Self::of_kind(bytes, ObjectKind::Executable).context("not a program for arm64")
    }

    fn of_kind(bytes: &'data [u8], kind: ObjectKind) -> Result<Self> {
        let file = MachOFile64::parse(bytes).context("not a Mach-O file")?;
        let (arch, found) = (file.architecture(), file.kind());
        ensure!(arch == Architecture::Aarch64, "it is for {arch:?}");
        ensure!(found == kind, "it is of the kind {found:?}");
        Ok(Self(file))
    }

    /// Every symbol that it exports.
    pub(crate) fn exports(&self) -> Result<BTreeSet<String>> {
        let exports = self.0.exports()?;
        exports.map(|export| Ok(text(export?.name()))).collect()
    }

    /// Every symbol that it imports.
    pub(crate) fn imports(&self) -> Result<Vec<Import>> {
        let imports = self.0.imports()?.map(|import| {
            let import = import?;
            Ok(Import {
                name: text(import.name()),
                from: String::from_utf8_lossy(import.library()).into_owned(),
                everywhere: matches!(
                    import.flags(),
                    ImportFlags::MachOBind {
                        dylib: macho::BIND_SPECIAL_DYLIB_WEAK_LOOKUP,
                        ..
                    }
                ),
            })
        });
        imports.collect()
    }

    /// The libraries that it loads, by the names that dyld is given.
    pub(crate) fn loads(&self) -> Result<Vec<String>> {
        self.commands(|file, command| match command.variant()? {
            // Not its own name, which has the same form.
            LoadCommandVariant::Dylib(dylib) if command.cmd() != macho::LC_ID_DYLIB => {
                let name = command.string(file.endian(), dylib.dylib.name)?;
                Ok(Some(String::from_utf8_lossy(name).into_owned()))
            }
            _ => Ok(None),
        })
    }

    /// The folders in which it has dyld look for `@rpath`.
    pub(crate) fn rpaths(&self) -> Result<Vec<String>> {
        self.commands(|file, command| match command.variant()? {
            LoadCommandVariant::Rpath(rpath) => {
                let path = command.string(file.endian(), rpath.path)?;
                Ok(Some(String::from_utf8_lossy(path).into_owned()))
            }
            _ => Ok(None),
        })
    }

    /// Whether it is signed: an Apple processor runs nothing that is not, be it by nobody.
    pub(crate) fn is_signed(&self) -> Result<bool> {
        let signatures = self.commands(|_, command| {
            let is_one = command.cmd() == macho::LC_CODE_SIGNATURE;
            Ok(is_one.then_some(()))
        })?;
        Ok(!signatures.is_empty())
    }

    /// The oldest macOS that it is for.
    pub(crate) fn minimum(&self) -> Result<Version> {
        let found = self.commands(|file, command| match command.variant()? {
            LoadCommandVariant::BuildVersion(build, _) => Ok(Some(build.minos.get(file.endian()))),
            _ => Ok(None),
        })?;
        match found[..] {
            // xxxx.yy.zz in nibbles.
            [macho::Version(packed)] => Ok(Version(packed >> 16, (packed >> 8) & 0xff)),
            _ => bail!("does not say for which macOS it is"),
        }
    }

    /// What `pick` takes from the load commands.
    fn commands<T>(
        &self,
        pick: impl Fn(
            &MachOFile64<'data, Endianness>,
            object::read::macho::LoadCommandData<'data, Endianness>,
        ) -> Result<Option<T>>,
    ) -> Result<Vec<T>> {
        let (endian, data) = (self.0.endian(), self.0.data());
        let mut commands = self.0.macho_header().load_commands(endian, data, 0)?;
        let mut found = Vec::new();
        while let Some(command) = commands.next()? {
            found.extend(pick(&self.0, command)?);
        }
        Ok(found)
    }
}

fn text(name: NameOrOrdinal<&[u8]>) -> String {
    match name {
        NameOrOrdinal::Name(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        NameOrOrdinal::Ordinal(ordinal) => format!("#{ordinal}"),
    }
}
