//! The tree of a template.

/// A variable, by its number among the names of the template.
pub(in super::super) type Symbol = usize;

#[derive(Debug)]
pub(in super::super) enum Literal {
    Str(String),
    Int(i128),
    Float(f64),
}

/// An expression.
#[derive(Debug)]
pub(in super::super) struct Node {
    pub(in super::super) line: u32,
    /// The longest way down to a leaf.
    pub(super) height: u32,
    pub(in super::super) expr: Expr,
}

#[derive(Debug)]
pub(in super::super) enum Expr {
    None,
    Bool(bool),
    Literal(usize),
    Name(Symbol),
    List(Vec<Node>),
    Tuple(Vec<Node>),
    Dict(Vec<(Node, Node)>),
    Attribute(Box<Node>, String),
    Item(Box<(Node, Node)>),
    Slice(Box<Node>, Box<[Option<Node>; 3]>),
    Call(Box<Node>, Box<Arguments>),
    /// Without a value in a `filter` block.
    Filter(Option<Box<Node>>, String, Box<Arguments>),
    Test(Box<Node>, String, Box<Arguments>),
    Not(Box<Node>),
    Negative(Box<Node>),
    Positive(Box<Node>),
    Binary(Operator, Box<(Node, Node)>),
    Concat(Vec<Node>),
    Compare(Box<Node>, Vec<(Comparison, Node)>),
    And(Box<(Node, Node)>),
    Or(Box<(Node, Node)>),
    /// What is to hold, what it is then, and else.
    Condition(Box<(Node, Node)>, Option<Box<Node>>),
}

#[derive(Debug, Default)]
pub(in super::super) struct Arguments {
    pub(in super::super) positional: Vec<Node>,
    pub(in super::super) named: Vec<(String, Node)>,
    /// `*args`
    pub(in super::super) more: Option<Node>,
    /// `**kwargs`
    pub(in super::super) more_named: Option<Node>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Operator {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    Pow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    NotIn,
}

/// What can be assigned to.
#[derive(Debug)]
pub(in super::super) enum Target {
    Name(Symbol),
    /// An attribute of a namespace.
    Attribute(Symbol, String),
    Tuple(Vec<Target>),
}

#[derive(Debug)]
pub(in super::super) struct Stmt {
    pub(in super::super) line: u32,
    pub(in super::super) kind: StmtKind,
}

#[derive(Debug)]
pub(in super::super) enum StmtKind {
    Text(String),
    Output(Node),
    If(Vec<(Node, Vec<Stmt>)>, Vec<Stmt>),
    For(Box<For>),
    Set(Target, Node),
    SetBlock(Target, Option<Node>, Vec<Stmt>),
    With(Vec<(Target, Node)>, Vec<Stmt>),
    Macro(Box<Macro>),
    /// The call, and the macro that it gets as `caller`.
    CallBlock(Node, Box<Macro>),
    Filter(Node, Vec<Stmt>),
    AutoEscape(Node, Vec<Stmt>),
    /// A scope of its own: `block` and `generation`.
    Scope(Vec<Stmt>),
    /// What needs another template: there is none.
    Elsewhere(&'static str),
    Break,
    Continue,
}

#[derive(Debug)]
pub(in super::super) struct For {
    pub(in super::super) target: Target,
    pub(in super::super) over: Node,
    pub(in super::super) only_if: Option<Node>,
    pub(in super::super) recursive: bool,
    pub(in super::super) body: Vec<Stmt>,
    pub(in super::super) otherwise: Vec<Stmt>,
}

#[derive(Debug)]
pub(in super::super) struct Macro {
    pub(in super::super) name: String,
    pub(in super::super) symbol: Symbol,
    pub(in super::super) parameters: Vec<(Symbol, Option<Node>)>,
    pub(in super::super) body: Vec<Stmt>,
    /// Which of the names that a macro may look at its body does look at.
    pub(in super::super) varargs: Option<Symbol>,
    pub(in super::super) kwargs: Option<Symbol>,
    pub(in super::super) caller: Option<Symbol>,
}

impl Expr {
    /// The height of the highest node under it.
    pub(super) fn height(&self) -> u32 {
        let highest = |nodes: &[Node]| nodes.iter().map(|node| node.height).max().unwrap_or(0);
        match self {
            Self::None | Self::Bool(_) | Self::Literal(_) | Self::Name(_) => 0,
            Self::List(items) | Self::Tuple(items) | Self::Concat(items) => highest(items),
            Self::Dict(items) => items
                .iter()
                .map(|(a, b)| a.height.max(b.height))
                .max()
                .unwrap_or(0),
            Self::Attribute(node, _)
            | Self::Not(node)
            | Self::Negative(node)
            | Self::Positive(node) => node.height,
            Self::Item(pair) | Self::Binary(_, pair) | Self::And(pair) | Self::Or(pair) => {
                pair.0.height.max(pair.1.height)
            }
            Self::Slice(node, bounds) => {
                let bounds = bounds.iter().flatten().map(|node| node.height);
                bounds.max().unwrap_or(0).max(node.height)
            }
            Self::Call(node, arguments) | Self::Test(node, _, arguments) => {
                node.height.max(arguments.height())
            }
            Self::Filter(node, _, arguments) => node
                .as_ref()
                .map_or(0, |node| node.height)
                .max(arguments.height()),
            Self::Compare(node, others) => {
                let others = others.iter().map(|(_, node)| node.height);
                others.max().unwrap_or(0).max(node.height)
            }
            Self::Condition(pair, otherwise) => {
                let otherwise = otherwise.as_ref().map_or(0, |node| node.height);
                pair.0.height.max(pair.1.height).max(otherwise)
            }
        }
    }
}

impl Arguments {
    fn height(&self) -> u32 {
        let named = self.named.iter().map(|(_, node)| node);
        let more = self.more.iter().chain(&self.more_named);
        let all = self.positional.iter().chain(named).chain(more);
        all.map(|node| node.height).max().unwrap_or(0)
    }
}
