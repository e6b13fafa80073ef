//! The names of the functions that C headers declare.
//!
//! A scanner of a page, not a parser: the headers are mlx-c's and ours, plain C declarations that
//! end in a semicolon.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Every `mlx_*` and `mlxb_*` function declared below a folder of headers.
pub(crate) fn functions(folder: &Path) -> Result<BTreeSet<String>> {
    let (mut found, mut pending) = (BTreeSet::new(), vec![folder.to_owned()]);
    while let Some(folder) = pending.pop() {
        let at = || format!("cannot list {}", folder.display());
        for entry in fs::read_dir(&folder).with_context(at)? {
            let path = entry.with_context(at)?.path();
            // Helpers of mlx-c's own sources: C++, and inline.
            let private = path.ends_with("private");
            if path.is_dir() && !private {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "h") {
                let text = fs::read_to_string(&path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                found.extend(declared(&text));
            }
        }
    }
    ensure!(
        found.len() > 100,
        "found only {} functions in {}",
        found.len(),
        folder.display()
    );
    Ok(found)
}

/// The functions that one header declares.
fn declared(header: &str) -> Vec<String> {
    let code = without_comments(header);
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let code = lines.collect::<Vec<_>>().join("\n");
    code.split([';', '{', '}'])
        .filter(|statement| !statement.trim_start().starts_with("typedef"))
        .filter_map(|statement| {
            // The first parenthesis opens the parameters; those after it are function pointers'.
            let before = statement.split_once('(')?.0;
            let name = before
                .trim_end()
                .rsplit(|c: char| !c.is_alphanumeric() && c != '_')
                .next()?;
            let ours = name.trim_start_matches('_').starts_with("mlx");
            ours.then(|| name.to_owned())
        })
        .collect()
}

fn without_comments(code: &str) -> String {
    let mut result = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(start) = rest.find("/*").into_iter().chain(rest.find("//")).min() {
        result.push_str(&rest[..start]);
        let end = if rest[start..].starts_with("/*") {
            "*/"
        } else {
            "\n"
        };
        let after = rest[start..]
            .find(end)
            .map_or(rest.len(), |at| start + at + end.len());
        result.push('\n');
        rest = &rest[after..];
    }
    result + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_found_and_nothing_else() {
        let header = "
            #define mlx_error(...) _mlx_error(__FILE__, __VA_ARGS__)
            /* int mlx_in_a_comment(void); */
            // int mlx_in_another(void);
            extern \"C\" {
            typedef void (*mlx_handler)(const char* msg);
            typedef struct mlx_array_ { void* ctx; } mlx_array;
            static mlx_array mlx_array_empty;
            mlx_array mlx_array_new(void);
            int mlxb_host_op(
                mlx_vector_array* outputs,
                void (*payload_free)(void*));
            void _mlx_error(const char* file, ...);
            size_t other(void);
            }
        ";
        assert_eq!(
            declared(header),
            ["mlx_array_new", "mlxb_host_op", "_mlx_error"]
        );
    }
}
