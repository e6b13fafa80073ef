//! Expressions, by the precedence that Jinja2 gives to operators.

use super::ast::{Arguments, Comparison, Expr, Literal, Node, Operator};
use super::lexer::Kind;
use super::{Outcome, Parser};

/// How tightly the operators between two values bind, from `or` to `**`.
const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;
const COMPARE: u8 = 4;
const SUM: u8 = 5;
const CONCAT: u8 = 6;
const PRODUCT: u8 = 7;
const POWER: u8 = 8;

impl Parser {
    pub(super) fn expression(&mut self) -> Outcome<Node> {
        self.nested(|parser| {
            let line = parser.line();
            let mut node = parser.binary(OR)?;
            while parser.skip_name("if") {
                let test = parser.binary(OR)?;
                let otherwise = match parser.skip_name("else") {
                    true => Some(Box::new(parser.expression()?)),
                    false => None,
                };
                node = parser.node(line, Expr::Condition(Box::new((test, node)), otherwise))?;
            }
            Ok(node)
        })
    }

    /// One expression, or several with commas between them: a tuple.
    pub(super) fn tuple(&mut self) -> Outcome<Node> {
        self.tuple_of(&[], false, Self::expression)
    }

    pub(super) fn tuple_without_condition(&mut self, ends: &[&str]) -> Outcome<Node> {
        self.tuple_of(ends, false, |parser| {
            parser.nested(|parser| parser.binary(OR))
        })
    }

    /// Whether nothing more of a list without brackets can come here: the block or the parenthesis that
    /// it is in ends, or one of the words that `ends` names is next.
    pub(super) fn list_ends(&self, ends: &[&str]) -> bool {
        match self.peek() {
            Kind::BlockEnd | Kind::OutputEnd => true,
            Kind::Operator(operator) => *operator == ")",
            Kind::Name(name) => ends.contains(&name.as_str()),
            _ => false,
        }
    }

    fn tuple_of(
        &mut self,
        ends: &[&str],
        may_be_empty: bool,
        mut read: impl FnMut(&mut Self) -> Outcome<Node>,
    ) -> Outcome<Node> {
        let line = self.line();
        let mut items = Vec::new();
        let mut is_tuple = false;
        loop {
            if self.list_ends(ends) {
                break;
            }
            items.push(read(self)?);
            if !self.skip(",") {
                break;
            }
            is_tuple = true;
        }
        match items.pop() {
            Some(node) if !is_tuple => Ok(node),
            None if !may_be_empty => self.unexpected("an expression"),
            last => {
                items.extend(last);
                self.node(line, Expr::Tuple(items))
            }
        }
    }

    /// An operator between two values that binds at least as tightly as `lowest`.
    fn binary(&mut self, lowest: u8) -> Outcome<Node> {
        let line = self.line();
        if lowest <= NOT && self.skip_name("not") {
            let inner = self.nested(|parser| parser.binary(NOT))?;
            let node = self.node(line, Expr::Not(Box::new(inner)))?;
            return self.operators(line, node, lowest, NOT);
        }
        let node = self.unary(true)?;
        self.operators(line, node, lowest, POWER)
    }

    /// Goes on after a value with the operators from the tightest, `highest`, to `lowest`.
    fn operators(&mut self, line: u32, mut node: Node, lowest: u8, highest: u8) -> Outcome<Node> {
        let mut level = highest;
        while let Some(next) = self
            .operator()
            .filter(|next| (lowest..=level).contains(next))
        {
            level = next;
            match next {
                COMPARE => {
                    let mut others = Vec::new();
                    while let Some(comparison) = self.comparison() {
                        others.push((comparison, self.binary(SUM)?));
                    }
                    node = self.node(line, Expr::Compare(Box::new(node), others))?;
                }
                CONCAT => {
                    let mut items = vec![node];
                    while self.skip("~") {
                        items.push(self.binary(PRODUCT)?);
                    }
                    node = self.node(line, Expr::Concat(items))?;
                }
                _ => {
                    let operator = self.next();
                    let right = self.binary(next + 1)?;
                    let pair = Box::new((node, right));
                    let expr = match operator {
                        Kind::Name(name) if name == "or" => Expr::Or(pair),
                        Kind::Name(_) => Expr::And(pair),
                        Kind::Operator("+") => Expr::Binary(Operator::Add, pair),
                        Kind::Operator("-") => Expr::Binary(Operator::Sub, pair),
                        Kind::Operator("*") => Expr::Binary(Operator::Mul, pair),
                        Kind::Operator("/") => Expr::Binary(Operator::Div, pair),
                        Kind::Operator("//") => Expr::Binary(Operator::FloorDiv, pair),
                        Kind::Operator("%") => Expr::Binary(Operator::Mod, pair),
                        _ => Expr::Binary(Operator::Pow, pair),
                    };
                    node = self.node(line, expr)?;
                }
            }
        }
        Ok(node)
    }

    /// How tightly the operator binds that comes next, if one does.
    fn operator(&self) -> Option<u8> {
        match self.peek() {
            Kind::Name(name) => match name.as_str() {
                "or" => Some(OR),
                "and" => Some(AND),
                "in" => Some(COMPARE),
                "not" if matches!(self.look(), Kind::Name(name) if name == "in") => Some(COMPARE),
                _ => None,
            },
            Kind::Operator(operator) => match *operator {
                "==" | "!=" | "<" | "<=" | ">" | ">=" => Some(COMPARE),
                "+" | "-" => Some(SUM),
                "~" => Some(CONCAT),
                "*" | "/" | "//" | "%" => Some(PRODUCT),
                "**" => Some(POWER),
                _ => None,
            },
            _ => None,
        }
    }

    /// Takes a comparison.
    fn comparison(&mut self) -> Option<Comparison> {
        let comparison = match self.peek() {
            Kind::Operator("==") => Comparison::Equal,
            Kind::Operator("!=") => Comparison::NotEqual,
            Kind::Operator("<") => Comparison::Less,
            Kind::Operator("<=") => Comparison::LessEqual,
            Kind::Operator(">") => Comparison::Greater,
            Kind::Operator(">=") => Comparison::GreaterEqual,
            Kind::Name(name) if name == "in" => Comparison::In,
            Kind::Name(name)
                if name == "not" && matches!(self.look(), Kind::Name(name) if name == "in") =>
            {
                self.at += 1;
                Comparison::NotIn
            }
            _ => return None,
        };
        self.at += 1;
        Some(comparison)
    }

    /// A value with its sign, and what follows it directly.
    fn unary(&mut self, with_filters: bool) -> Outcome<Node> {
        let line = self.line();
        let node = if self.skip("-") {
            let inner = self.nested(|parser| parser.unary(false))?;
            self.node(line, Expr::Negative(Box::new(inner)))?
        } else if self.skip("+") {
            let inner = self.nested(|parser| parser.unary(false))?;
            self.node(line, Expr::Positive(Box::new(inner)))?
        } else {
            self.primary()?
        };
        let node = self.postfix(node)?;
        if with_filters {
            self.filters_and_tests(node)
        } else {
            Ok(node)
        }
    }

    fn primary(&mut self) -> Outcome<Node> {
        let line = self.line();
        let expr = match self.peek().clone() {
            Kind::Name(name) => {
                self.at += 1;
                match name.as_str() {
                    "true" | "True" => Expr::Bool(true),
                    "false" | "False" => Expr::Bool(false),
                    "none" | "None" => Expr::None,
                    _ => Expr::Name(self.symbol(&name)),
                }
            }
            Kind::Str(mut text) => {
                self.at += 1;
                while let Kind::Str(more) = self.peek() {
                    text.push_str(more);
                    self.at += 1;
                }
                self.literal(Literal::Str(text))
            }
            Kind::Int(number) => {
                self.at += 1;
                self.literal(Literal::Int(number))
            }
            Kind::Float(number) => {
                self.at += 1;
                self.literal(Literal::Float(number))
            }
            Kind::Operator("(") => {
                self.at += 1;
                let node = self.tuple_of(&[], true, Self::expression)?;
                self.expect(")")?;
                return Ok(node);
            }
            Kind::Operator("[") => {
                self.at += 1;
                let mut items = Vec::new();
                while !self.skip("]") {
                    items.push(self.expression()?);
                    if !self.is("]") {
                        self.expect(",")?;
                    }
                }
                Expr::List(items)
            }
            Kind::Operator("{") => {
                self.at += 1;
                let mut items = Vec::new();
                while !self.skip("}") {
                    let key = self.expression()?;
                    self.expect(":")?;
                    items.push((key, self.expression()?));
                    if !self.is("}") {
                        self.expect(",")?;
                    }
                }
                Expr::Dict(items)
            }
            other => return self.wrong(format!("unexpected {other}")),
        };
        self.node(line, expr)
    }

    fn postfix(&mut self, mut node: Node) -> Outcome<Node> {
        loop {
            let line = self.line();
            if self.skip(".") {
                let expr = match self.next() {
                    Kind::Name(name) => Expr::Attribute(Box::new(node), name),
                    Kind::Int(number) => {
                        let literal = self.literal(Literal::Int(number));
                        let index = self.node(line, literal)?;
                        Expr::Item(Box::new((node, index)))
                    }
                    _ => {
                        self.at -= 1;
                        return self.wrong("expected name or number");
                    }
                };
                node = self.node(line, expr)?;
            } else if self.skip("[") {
                let expr = self.subscript(node)?;
                node = self.node(line, expr)?;
            } else if self.is("(") {
                let arguments = self.arguments()?;
                node = self.node(line, Expr::Call(Box::new(node), Box::new(arguments)))?;
            } else {
                return Ok(node);
            }
        }
    }

    /// After `[`: an index, a slice, or several indices, which are a tuple.
    fn subscript(&mut self, node: Node) -> Outcome<Expr> {
        let mut first = None;
        if !self.is(":") {
            let index = self.tuple_of(&[], false, Self::expression)?;
            if self.skip("]") {
                return Ok(Expr::Item(Box::new((node, index))));
            }
            first = Some(index);
        }
        if !self.is(":") {
            return self.unexpected("']'");
        }
        let mut bounds = [first, None, None];
        for bound in &mut bounds[1..] {
            if !self.skip(":") {
                break;
            }
            if !self.is(":") && !self.is("]") {
                *bound = Some(self.expression()?);
            }
        }
        if !self.skip("]") {
            return self.unexpected("']'");
        }
        Ok(Expr::Slice(Box::new(node), Box::new(bounds)))
    }

    fn filters_and_tests(&mut self, mut node: Node) -> Outcome<Node> {
        loop {
            if self.is("|") {
                node = self.filters(Some(node))?;
            } else if self.is_name("is") {
                node = self.test(node)?;
            } else if self.is("(") {
                let line = self.line();
                let arguments = self.arguments()?;
                node = self.node(line, Expr::Call(Box::new(node), Box::new(arguments)))?;
            } else {
                return Ok(node);
            }
        }
    }

    /// Takes filters, `| name(...)`, on a value, or on a block's text if there is none.
    pub(super) fn filters(&mut self, mut node: Option<Node>) -> Outcome<Node> {
        while self.skip("|") {
            let line = self.line();
            let name = self.dotted_name()?;
            let arguments = match self.is("(") {
                true => self.arguments()?,
                false => Arguments::default(),
            };
            let expr = Expr::Filter(node.map(Box::new), name, Box::new(arguments));
            node = Some(self.node(line, expr)?);
        }
        match node {
            Some(node) => Ok(node),
            None => self.unexpected("'|'"),
        }
    }

    pub(super) fn dotted_name(&mut self) -> Outcome<String> {
        let mut name = self.name()?;
        while self.skip(".") {
            name.push('.');
            name.push_str(&self.name()?);
        }
        Ok(name)
    }

    fn test(&mut self, node: Node) -> Outcome<Node> {
        let line = self.line();
        self.at += 1;
        let negated = self.skip_name("not");
        let name = self.dotted_name()?;
        let mut arguments = Arguments::default();
        let operand = match self.peek() {
            Kind::Operator("(") => {
                arguments = self.arguments()?;
                false
            }
            Kind::Name(name) if name == "is" => {
                return self.wrong("you cannot chain multiple tests with is");
            }
            Kind::Name(name) => !matches!(name.as_str(), "else" | "or" | "and"),
            Kind::Str(_) | Kind::Int(_) | Kind::Float(_) | Kind::Operator("[" | "{") => true,
            _ => false,
        };
        if operand {
            let operand = self.nested(Self::primary)?;
            arguments.positional.push(self.postfix(operand)?);
        }
        let test = self.node(line, Expr::Test(Box::new(node), name, Box::new(arguments)))?;
        if negated {
            self.node(line, Expr::Not(Box::new(test)))
        } else {
            Ok(test)
        }
    }

    /// The arguments of a call, with their brackets.
    pub(super) fn arguments(&mut self) -> Outcome<Arguments> {
        self.expect("(")?;
        let mut arguments = Arguments::default();
        while !self.skip(")") {
            let invalid = "invalid syntax for function call expression";
            if self.skip("*") {
                if arguments.more.is_some() || arguments.more_named.is_some() {
                    return self.wrong(invalid);
                }
                arguments.more = Some(self.expression()?);
            } else if self.skip("**") {
                if arguments.more_named.is_some() {
                    return self.wrong(invalid);
                }
                arguments.more_named = Some(self.expression()?);
            } else if matches!(
                (self.peek(), self.look()),
                (Kind::Name(_), Kind::Operator("="))
            ) {
                if arguments.more_named.is_some() {
                    return self.wrong(invalid);
                }
                let name = self.name()?;
                self.at += 1;
                arguments.named.push((name, self.expression()?));
            } else {
                if arguments.more.is_some()
                    || arguments.more_named.is_some()
                    || !arguments.named.is_empty()
                {
                    return self.wrong(invalid);
                }
                arguments.positional.push(self.expression()?);
            }
            if !self.is(")") {
                self.expect(",")?;
            }
        }
        Ok(arguments)
    }
}
