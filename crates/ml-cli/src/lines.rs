//! The lines that a person types, or that a pipe brings.
//!
//! At a terminal there is line editing and a history, which is kept in the user's state directory.
//! Everything else is read plainly: no prompt, no escape codes.

use std::io::{BufRead, IsTerminal, stdin, stdout};
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

/// What came.
pub(crate) enum Input {
    Line(String),
    /// Ctrl-C instead of a line.
    Interrupted,
    /// There are no more.
    End,
}

/// A source of lines.
pub(crate) enum Lines {
    Terminal {
        editor: Box<DefaultEditor>,
        history: Option<PathBuf>,
    },
    Plain {
        count: usize,
    },
}

impl Lines {
    pub(crate) fn new() -> anyhow::Result<Self> {
        if !stdin().is_terminal() || !stdout().is_terminal() {
            return Ok(Self::Plain { count: 0 });
        }
        let mut editor = DefaultEditor::new().context("cannot use the terminal")?;
        let history = history_file();
        if let Some(file) = &history {
            // The first time there is none.
            let _ = editor.load_history(file);
        }
        Ok(Self::Terminal {
            editor: editor.into(),
            history,
        })
    }

    pub(crate) fn is_interactive(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }

    pub(crate) fn next(&mut self) -> anyhow::Result<Input> {
        match self {
            Self::Terminal { editor, .. } => match editor.readline("> ") {
                Ok(line) => {
                    let _ = editor.add_history_entry(&line);
                    Ok(Input::Line(line))
                }
                Err(ReadlineError::Interrupted) => Ok(Input::Interrupted),
                Err(ReadlineError::Eof) => Ok(Input::End),
                Err(error) => Err(error).context("cannot read from the terminal"),
            },
            Self::Plain { count } => {
                *count += 1;
                read_line(&mut stdin().lock(), *count)
            }
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if let Self::Terminal {
            editor,
            history: Some(file),
        } = self
        {
            // A history that cannot be kept is no reason to complain.
            let _ = file.parent().map(std::fs::create_dir_all);
            let _ = editor.save_history(file);
        }
    }
}

fn read_line(source: &mut impl BufRead, number: usize) -> anyhow::Result<Input> {
    let mut bytes = Vec::new();
    source
        .read_until(b'\n', &mut bytes)
        .context("cannot read standard input")?;
    if bytes.is_empty() {
        return Ok(Input::End);
    }
    let Ok(line) = String::from_utf8(bytes) else {
        anyhow::bail!("line {number} of standard input is not UTF-8 text; convert it first");
    };
    Ok(Input::Line(line.trim_end_matches(['\n', '\r']).to_owned()))
}

/// `ml/history` in the XDG state directory.
fn history_file() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let state = match set("XDG_STATE_HOME") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(&set("HOME")?).join(".local/state"),
    };
    Some(state.join("ml/history"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lose_their_ends_and_the_last_needs_none() {
        let mut source = &b"one\r\n\n\xc3\xa9 two"[..];
        let mut lines = Vec::new();
        while let Input::Line(line) = read_line(&mut source, 1).unwrap() {
            lines.push(line);
        }
        assert_eq!(lines, ["one", "", "é two"]);
    }

    #[test]
    fn a_line_that_is_no_text_is_named() {
        let error = read_line(&mut &b"\xff\n"[..], 3).err().unwrap().to_string();
        assert!(error.contains("line 3"), "{error}");
    }
}
