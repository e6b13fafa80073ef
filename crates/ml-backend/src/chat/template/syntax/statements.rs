//! Statements: what stands in `{% ... %}`.

use super::ast::{Arguments, Expr, For, Macro, Node, Stmt, StmtKind, Target};
use super::lexer::Kind;
use super::{Outcome, Parser};

impl Parser {
    /// Reads statements up to a block that begins with one of `ends`, whose name is left to be
    /// read; without ends, up to the end of the template.
    pub(super) fn body(&mut self, ends: &[&str]) -> Outcome<Vec<Stmt>> {
        let mut body = Vec::new();
        loop {
            let line = self.line();
            match self.next() {
                Kind::Data(text) => body.push(Stmt {
                    line,
                    kind: StmtKind::Text(text),
                }),
                Kind::OutputBegin => {
                    let node = self.tuple()?;
                    if *self.peek() != Kind::OutputEnd {
                        return self.unexpected("'}}'");
                    }
                    self.at += 1;
                    body.push(Stmt {
                        line,
                        kind: StmtKind::Output(node),
                    });
                }
                Kind::BlockBegin => {
                    if matches!(self.peek(), Kind::Name(name) if ends.contains(&name.as_str())) {
                        return Ok(body);
                    }
                    let line = self.line();
                    self.nested(|parser| parser.statement(line, &mut body))?;
                }
                _ if ends.is_empty() => return Ok(body),
                _ => {
                    self.at -= 1;
                    return self.unexpected(&format!("'{{% {} %}}'", ends.join(" %}' or '{% ")));
                }
            }
        }
    }

    fn block_end(&mut self) -> Outcome<()> {
        if *self.peek() != Kind::BlockEnd {
            return self.unexpected("'%}'");
        }
        self.at += 1;
        Ok(())
    }

    /// The body of a block, up to and with its end.
    fn body_to(&mut self, end: &str) -> Outcome<Vec<Stmt>> {
        self.block_end()?;
        let body = self.body(&[end])?;
        self.at += 1;
        Ok(body)
    }

    fn statement(&mut self, line: u32, body: &mut Vec<Stmt>) -> Outcome<()> {
        let name = self.name()?;
        let kind = match name.as_str() {
            "if" => self.condition()?,
            "for" => self.for_loop()?,
            "set" => self.set()?,
            "with" => self.with()?,
            "macro" => {
                let name = self.name()?;
                let parameters = self.signature()?;
                StmtKind::Macro(Box::new(self.macro_body(name, parameters, "endmacro")?))
            }
            "call" => self.call_block()?,
            "filter" => {
                let filter = self.filter_of_block()?;
                StmtKind::Filter(filter, self.body_to("endfilter")?)
            }
            "print" => {
                let mut first = true;
                while *self.peek() != Kind::BlockEnd {
                    if !first {
                        self.expect(",")?;
                    }
                    first = false;
                    let node = self.expression()?;
                    body.push(Stmt {
                        line,
                        kind: StmtKind::Output(node),
                    });
                }
                return self.block_end();
            }
            "autoescape" => {
                let node = self.expression()?;
                StmtKind::AutoEscape(node, self.body_to("endautoescape")?)
            }
            "generation" => StmtKind::Scope(self.body_to("endgeneration")?),
            "block" => {
                let name = self.name()?;
                let _ = self.skip_name("scoped") || self.skip_name("required");
                let scope = StmtKind::Scope(self.body_to("endblock")?);
                self.skip_name(&name);
                scope
            }
            "break" | "continue" if self.loops == 0 => {
                return self.wrong(format!("'{name}' outside of a loop"));
            }
            "break" => StmtKind::Break,
            "continue" => StmtKind::Continue,
            "include" | "import" | "from" | "extends" => {
                while !matches!(self.peek(), Kind::BlockEnd | Kind::End) {
                    self.at += 1;
                }
                StmtKind::Elsewhere(match name.as_str() {
                    "include" => "include",
                    "extends" => "extends",
                    _ => "import",
                })
            }
            _ => {
                self.at -= 1;
                return self.wrong(format!("encountered unknown tag '{name}'"));
            }
        };
        self.block_end()?;
        body.push(Stmt { line, kind });
        Ok(())
    }

    fn condition(&mut self) -> Outcome<StmtKind> {
        let mut branches = Vec::new();
        loop {
            let test = self.tuple_without_condition(&[])?;
            self.block_end()?;
            let body = self.body(&["elif", "else", "endif"])?;
            branches.push((test, body));
            match self.name()?.as_str() {
                "elif" => {}
                "else" => return Ok(StmtKind::If(branches, self.body_to("endif")?)),
                _ => return Ok(StmtKind::If(branches, Vec::new())),
            }
        }
    }

    fn for_loop(&mut self) -> Outcome<StmtKind> {
        let target = self.target(&["in"], false)?;
        if !self.skip_name("in") {
            return self.unexpected("'in'");
        }
        let over = self.tuple_without_condition(&["recursive"])?;
        let only_if = match self.skip_name("if") {
            true => Some(self.expression()?),
            false => None,
        };
        let recursive = self.skip_name("recursive");
        self.block_end()?;
        self.loops += 1;
        let body = self.body(&["endfor", "else"])?;
        self.loops -= 1;
        let otherwise = match self.name()?.as_str() {
            "else" => self.body_to("endfor")?,
            _ => Vec::new(),
        };
        Ok(StmtKind::For(Box::new(For {
            target,
            over,
            only_if,
            recursive,
            body,
            otherwise,
        })))
    }

    fn set(&mut self) -> Outcome<StmtKind> {
        let target = self.target(&[], true)?;
        if self.skip("=") {
            return Ok(StmtKind::Set(target, self.tuple()?));
        }
        let filter = match self.is("|") {
            true => Some(self.filters(None)?),
            false => None,
        };
        Ok(StmtKind::SetBlock(target, filter, self.body_to("endset")?))
    }

    fn with(&mut self) -> Outcome<StmtKind> {
        let mut values = Vec::new();
        while *self.peek() != Kind::BlockEnd {
            if !values.is_empty() {
                self.expect(",")?;
            }
            // A comma parts the assignments here, so a target is one name.
            let target = self.target(&[], false)?;
            self.expect("=")?;
            values.push((target, self.expression()?));
        }
        Ok(StmtKind::With(values, self.body_to("endwith")?))
    }

    fn call_block(&mut self) -> Outcome<StmtKind> {
        let parameters = match self.is("(") {
            true => self.signature()?,
            false => Vec::new(),
        };
        let call = self.expression()?;
        if !matches!(call.expr, Expr::Call(..)) {
            return self.wrong("expected call");
        }
        let body = self.macro_body("caller".to_owned(), parameters, "endcall")?;
        Ok(StmtKind::CallBlock(call, Box::new(body)))
    }

    fn signature(&mut self) -> Outcome<Vec<(String, Option<Node>)>> {
        self.expect("(")?;
        let mut parameters: Vec<(String, Option<Node>)> = Vec::new();
        while !self.is(")") {
            if !parameters.is_empty() {
                self.expect(",")?;
            }
            let name = self.name()?;
            let default = match self.skip("=") {
                true => Some(self.expression()?),
                false => None,
            };
            if default.is_none() && parameters.iter().any(|(_, default)| default.is_some()) {
                return self.wrong("non-default argument follows default argument");
            }
            parameters.push((name, default));
        }
        self.expect(")")?;
        Ok(parameters)
    }

    fn macro_body(
        &mut self,
        name: String,
        parameters: Vec<(String, Option<Node>)>,
        end: &str,
    ) -> Outcome<Macro> {
        let symbol = self.symbol(&name);
        let declared: Vec<String> = parameters.iter().map(|(name, _)| name.clone()).collect();
        let parameters = parameters
            .into_iter()
            .map(|(name, default)| (self.symbol(&name), default))
            .collect();
        let start = self.at;
        let loops = std::mem::take(&mut self.loops);
        self.block_end()?;
        // What a body looks at decides what the macro takes, so its names are looked through. Each
        // token is looked at once for every macro around it.
        let body = self.with_names(start, |parser| {
            let body = parser.body(&[end])?;
            parser.at += 1;
            Ok(body)
        })?;
        self.loops = loops;
        let (body, names) = body;
        let mut special = |name: &str| {
            let used = names.contains(&name) && !declared.iter().any(|it| it == name);
            used.then(|| self.symbol(name))
        };
        let (varargs, kwargs, caller) = (special("varargs"), special("kwargs"), special("caller"));
        Ok(Macro {
            name,
            symbol,
            parameters,
            body,
            varargs,
            kwargs,
            caller,
        })
    }

    /// Reads with `read`, and finds which of the three names of a macro stand there.
    fn with_names<T>(
        &mut self,
        start: usize,
        read: impl FnOnce(&mut Self) -> Outcome<T>,
    ) -> Outcome<(T, Vec<&'static str>)> {
        let mut names = Vec::new();
        // Tokens are taken as they are read, so this looks ahead, to the end of the macro or of
        // the one after it: to see too many is no harm.
        let mut depth = 0_u32;
        for (index, token) in self.tokens.iter().enumerate().skip(start) {
            let Kind::Name(name) = &token.kind else {
                continue;
            };
            let opens = index > 0 && self.tokens[index - 1].kind == Kind::BlockBegin;
            match name.as_str() {
                "macro" | "call" if opens => depth += 1,
                "endmacro" | "endcall" if opens && depth == 0 => break,
                "endmacro" | "endcall" if opens => depth -= 1,
                "varargs" if !names.contains(&"varargs") => names.push("varargs"),
                "kwargs" if !names.contains(&"kwargs") => names.push("kwargs"),
                "caller" if !names.contains(&"caller") => names.push("caller"),
                _ => {}
            }
        }
        Ok((read(self)?, names))
    }

    /// What is assigned to: a name, several of them, or with `attribute` one of a namespace.
    fn target(&mut self, ends: &[&str], attribute: bool) -> Outcome<Target> {
        let mut targets = Vec::new();
        let mut is_tuple = false;
        loop {
            if is_tuple && self.list_ends(ends) {
                break;
            }
            targets.push(self.nested(|parser| parser.single_target(attribute))?);
            if !self.skip(",") {
                break;
            }
            is_tuple = true;
        }
        match targets.pop() {
            Some(target) if !is_tuple => Ok(target),
            last => {
                targets.extend(last);
                Ok(Target::Tuple(targets))
            }
        }
    }

    fn single_target(&mut self, attribute: bool) -> Outcome<Target> {
        if self.skip("(") {
            let target = self.target(&[], attribute)?;
            self.expect(")")?;
            return Ok(target);
        }
        let name = self.name()?;
        if matches!(
            name.as_str(),
            "true" | "false" | "none" | "True" | "False" | "None"
        ) {
            return self.wrong(format!("can't assign to '{name}'"));
        }
        let symbol = self.symbol(&name);
        if attribute && self.skip(".") {
            return Ok(Target::Attribute(symbol, self.name()?));
        }
        Ok(Target::Name(symbol))
    }

    /// The filters of a block, which have no value before them.
    fn filter_of_block(&mut self) -> Outcome<Node> {
        let line = self.line();
        let name = self.dotted_name()?;
        let arguments = match self.is("(") {
            true => self.arguments()?,
            false => Arguments::default(),
        };
        let first = self.node(line, Expr::Filter(None, name, Box::new(arguments)))?;
        self.filters(Some(first))
    }
}
