//! From a template's source to its tree, as Jinja2 reads it.

pub(super) mod ast;
mod expressions;
mod lexer;
mod literal;
mod names;
mod statements;

use std::collections::HashMap;

use super::failure::{Failure, Outcome, fail};
use super::meter::{HEIGHT, NESTING, SOURCE_BYTES};
use ast::{Expr, Literal, Node, Stmt, Symbol};
use lexer::{Kind, Token};

/// A template, read.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) body: Vec<Stmt>,
    /// The names of the variables, by their symbols.
    pub(super) symbols: Vec<String>,
    /// The literals, by their numbers.
    pub(super) literals: Vec<Literal>,
}

/// Reads a template.
pub(super) fn parse(source: &str) -> Outcome<Template> {
    if source.len() > SOURCE_BYTES {
        let bytes = source.len();
        return fail(format!(
            "the template has {bytes} bytes; at most {SOURCE_BYTES} are read"
        ));
    }
    let tokens = lexer::tokens(source)?;
    let mut parser = Parser {
        tokens,
        at: 0,
        nesting: 0,
        symbols: Vec::new(),
        numbers: HashMap::new(),
        literals: Vec::new(),
        loops: 0,
    };
    let body = parser.body(&[])?;
    Ok(Template {
        body,
        symbols: parser.symbols,
        literals: parser.literals,
    })
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    /// How deep the brackets or blocks being read are.
    nesting: u32,
    symbols: Vec<String>,
    numbers: HashMap<String, Symbol>,
    literals: Vec<Literal>,
    /// How many loops the statement being read is in.
    loops: u32,
}

impl Parser {
    fn peek(&self) -> &Kind {
        self.tokens
            .get(self.at)
            .map_or(&Kind::End, |token| &token.kind)
    }

    fn look(&self) -> &Kind {
        self.tokens
            .get(self.at + 1)
            .map_or(&Kind::End, |token| &token.kind)
    }

    fn line(&self) -> u32 {
        let token = self.tokens.get(self.at).or(self.tokens.last());
        token.map_or(1, |token| token.line)
    }

    fn next(&mut self) -> Kind {
        let taken = self
            .tokens
            .get_mut(self.at)
            .map(|token| std::mem::replace(&mut token.kind, Kind::End));
        self.at += 1;
        taken.unwrap_or(Kind::End)
    }

    fn wrong<T>(&self, problem: impl Into<String>) -> Outcome<T> {
        Err(Failure::new(problem).at(self.line()))
    }

    fn unexpected<T>(&self, wanted: &str) -> Outcome<T> {
        self.wrong(format!("expected {wanted}, not {}", self.peek()))
    }

    fn is(&self, operator: &str) -> bool {
        matches!(self.peek(), Kind::Operator(it) if *it == operator)
    }

    fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Kind::Name(it) if it == name)
    }

    /// Takes an operator if it is the next token.
    fn skip(&mut self, operator: &str) -> bool {
        let there = self.is(operator);
        self.at += usize::from(there);
        there
    }

    fn skip_name(&mut self, name: &str) -> bool {
        let there = self.is_name(name);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, operator: &str) -> Outcome<()> {
        if self.skip(operator) {
            return Ok(());
        }
        self.unexpected(&format!("'{operator}'"))
    }

    fn name(&mut self) -> Outcome<String> {
        match self.peek() {
            Kind::Name(name) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            _ => self.unexpected("a name"),
        }
    }

    fn symbol(&mut self, name: &str) -> Symbol {
        if let Some(known) = self.numbers.get(name) {
            return *known;
        }
        let symbol = self.symbols.len();
        self.symbols.push(name.to_owned());
        self.numbers.insert(name.to_owned(), symbol);
        symbol
    }

    fn literal(&mut self, literal: Literal) -> Expr {
        self.literals.push(literal);
        Expr::Literal(self.literals.len() - 1)
    }

    /// Reads something that may hold itself.
    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        if self.nesting >= NESTING {
            return self.wrong(format!("it nests more than {NESTING} deep"));
        }
        self.nesting += 1;
        let result = read(self);
        self.nesting -= 1;
        result
    }

    fn node(&self, line: u32, expr: Expr) -> Outcome<Node> {
        let height = expr.height() + 1;
        if height > HEIGHT {
            return self.wrong(format!(
                "an expression has more than {HEIGHT} operators on top of each other"
            ));
        }
        Ok(Node { line, height, expr })
    }
}
