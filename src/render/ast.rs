//! A template ready to run: minijinja's syntax tree with owned names, constants as our values, and places that refer to
//! the file rather than to the block.

use std::sync::Arc;

use super::Value;

/// Where something stands: line and column in its file, both from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: u32,
    pub(super) column: u32,
    pub(super) width: u32,
}

/// The text a template came from, for messages.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) path: String,
    pub(super) text: String,
    /// The line in `path` of the text's first line.
    pub(super) first_line: usize,
}

#[derive(Debug)]
pub(super) struct Template {
    pub(super) body: Vec<Node>,
    pub(super) origin: Arc<Origin>,
}

#[derive(Debug)]
pub(super) enum Node {
    Text(Box<str>, Place),
    Emit(Expression),
    If { condition: Expression, then: Vec<Node>, otherwise: Vec<Node> },
    For(Arc<ForLoop>),
    Set { target: Target, value: Expression },
    SetBlock { target: Target, filters: Option<Expression>, body: Vec<Node> },
    With { assignments: Vec<(Target, Expression)>, body: Vec<Node> },
    Filter { filters: Expression, body: Vec<Node> },
    Macro(Arc<Function>),
    CallBlock { call: Box<Call>, place: Place, caller: Arc<Function> },
    Do(Expression),
    Break,
    Continue,
}

#[derive(Debug)]
pub(super) struct ForLoop {
    pub(super) target: Target,
    pub(super) iterable: Expression,
    pub(super) condition: Option<Expression>,
    pub(super) recursive: bool,
    pub(super) body: Vec<Node>,
    pub(super) otherwise: Vec<Node>,
    /// `loop` is read somewhere inside.
    pub(super) uses_loop: bool,
}

/// A macro or the body of a call block.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) name: Arc<str>,
    pub(super) parameters: Vec<(Arc<str>, Option<Expression>)>,
    pub(super) body: Vec<Node>,
    pub(super) uses_varargs: bool,
    pub(super) uses_kwargs: bool,
    pub(super) uses_caller: bool,
    pub(super) origin: Arc<Origin>,
}

/// What an assignment writes to.
#[derive(Debug)]
pub(super) enum Target {
    Name(Arc<str>),
    /// `ns.name`
    Attribute(Expression, Arc<str>),
    Several(Vec<Target>),
}

#[derive(Debug)]
pub(super) struct Expression {
    pub(super) kind: Kind,
    pub(super) place: Place,
}

#[derive(Debug)]
pub(super) enum Kind {
    Constant(Value),
    Name(Arc<str>),
    List(Vec<Expression>),
    Tuple(Vec<Expression>),
    Dict(Vec<(Expression, Expression)>),
    Attribute(Box<Expression>, Arc<str>),
    Item(Box<Expression>, Box<Expression>),
    Slice(Box<[Option<Expression>; 4]>),
    Call(Box<Call>),
    /// No subject inside `{% filter %}` and `{% set x | f %}`.
    Filter(Option<Box<Expression>>, Arc<str>, Vec<CallArgument>),
    Test(Box<Expression>, Arc<str>, Vec<CallArgument>),
    Not(Box<Expression>),
    Negative(Box<Expression>),
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
    Binary(BinaryOperator, Box<Expression>, Box<Expression>),
    Compare(Box<Expression>, Vec<(Comparison, Expression)>),
    Choice(Box<[Expression; 2]>, Option<Box<Expression>>),
    /// `a ~ b ~ c`
    Concatenate(Vec<Expression>),
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) callee: Expression,
    pub(super) arguments: Vec<CallArgument>,
}

#[derive(Debug)]
pub(super) enum CallArgument {
    Positional(Expression),
    Keyword(Arc<str>, Expression),
    Splat(Expression),
    KeywordSplat(Expression),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BinaryOperator {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Remainder,
    Power,
}

impl BinaryOperator {
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::FloorDivide => "//",
            Self::Remainder => "%",
            Self::Power => "** or pow()",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
}
