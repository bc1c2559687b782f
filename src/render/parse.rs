//! Text to [`Template`]: minijinja's parser, then our own tree. In: text with its path and first line; out: the tree or a
//! compilation error with its place, in Jinja2's words for the mistakes people make most.

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};

use minijinja::{
    machinery::{Span, ast, parse as parse_template},
    syntax::SyntaxConfig,
};

use super::{
    RenderError, Source, Value,
    ast::{
        BinaryOperator, Call, CallArgument, Comparison, Expression, ForLoop, Function, Kind, Node, Origin, Place,
        Target, Template,
    },
};
use crate::error::Location;

/// Parses a template of its own. Like Jinja2, it loses one line ending at its end.
///
/// # Errors
/// A compilation error at the place that does not parse.
pub(super) fn parse(source: Source<'_>) -> Result<Template, RenderError> {
    let text = normalize(source.text);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let origin =
        Arc::new(Origin { path: source.path.to_owned(), text: text.to_owned(), first_line: source.first_line });
    parse_part(text, &origin, source.first_line, 0)
}

/// Parses a part of `origin` that begins at that line and column (from 0), whole.
///
/// # Errors
/// As [`parse`].
pub(super) fn parse_part(
    text: &str,
    origin: &Arc<Origin>,
    line: usize,
    column: usize,
) -> Result<Template, RenderError> {
    let text = normalize(text);
    let part = Part { origin, line, column };
    static SYNTAX: OnceLock<SyntaxConfig> = OnceLock::new();
    // Building the default delimiters cannot fail; what it would fall back to differs in one line ending.
    let syntax =
        SYNTAX.get_or_init(|| SyntaxConfig::builder().keep_trailing_newline(true).build().unwrap_or_default()).clone();
    match parse_template(&text, &origin.path, syntax.clone()) {
        Ok(tree) => Ok(lower_tree(&tree, &text, part)),
        Err(error) => {
            let rewritten = rewrite(&text);
            match parse_template(&rewritten, &origin.path, syntax) {
                Ok(tree) => Ok(lower_tree(&tree, &rewritten, part)),
                Err(_) => Err(syntax_error(&error, &text, part)),
            }
        }
    }
}

/// Parses an expression that stands at that line and column (from 0) of `origin`.
///
/// # Errors
/// As [`parse`].
pub(super) fn parse_expression(
    text: &str,
    origin: &Arc<Origin>,
    line: usize,
    column: usize,
) -> Result<Expression, RenderError> {
    let part = Part { origin, line, column };
    match minijinja::machinery::parse_expr(text) {
        Ok(expression) => Ok(Lower { text, part }.expression(&expression)),
        Err(error) => Err(syntax_error(&error, text, part)),
    }
}

/// A literal without names or calls, as a value: `[1, 'a', {'b': None}]`.
pub(super) fn constant(text: &str) -> Option<Value> {
    let origin = Arc::new(Origin { path: String::new(), text: String::new(), first_line: 1 });
    fold(&parse_expression(text, &origin, 1, 0).ok()?)
}

fn fold(expression: &Expression) -> Option<Value> {
    let all = |items: &[Expression]| items.iter().map(fold).collect::<Option<Vec<_>>>();
    Some(match &expression.kind {
        Kind::Constant(value) => value.clone(),
        Kind::List(items) => Value::list(all(items)?),
        Kind::Tuple(items) => Value::tuple(all(items)?),
        Kind::Dict(entries) => {
            let mut map = super::Map::new();
            for (key, value) in entries {
                map.insert(super::Key(fold(key)?), fold(value)?);
            }
            Value::dict(map)
        }
        Kind::Negative(operand) => super::operators::negative(&fold(operand)?).ok()?,
        _ => return None,
    })
}

/// Where the text that is being parsed stands in its file.
#[derive(Clone, Copy)]
struct Part<'t> {
    origin: &'t Arc<Origin>,
    line: usize,
    column: usize,
}

impl Part<'_> {
    /// `line` counts from 1, `column` from 0.
    fn place(self, line: usize, column: usize, width: usize) -> Place {
        let column = if line == 1 { column + self.column } else { column };
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Place { line: small(line - 1 + self.line), column: small(column + 1), width: small(width.max(1)) }
    }
}

/// Jinja2 turns every line ending into `\n`.
fn normalize(text: &str) -> Cow<'_, str> {
    if text.contains('\r') { Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n")) } else { Cow::Borrowed(text) }
}

/// Writes what Jinja2 takes and minijinja does not in a form that both take: `{% do x if y %}` as
/// `{% set _do = x if y %}`, `{% if x: %}` without its colon, `x[a, b]` as `x[(a, b)]`.
fn rewrite(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(start) = rest.find('{') {
        let close = match rest.as_bytes().get(start + 1) {
            Some(b'%') => "%}",
            Some(b'{') => "}}",
            Some(b'#') => "#}",
            _ => {
                out.push_str(&rest[..=start]);
                rest = &rest[start + 1..];
                continue;
            }
        };
        out.push_str(&rest[..start + 2]);
        rest = &rest[start + 2..];
        let Some(end) = rest.find(close) else { break };
        let (inside, after) = rest.split_at(end);
        rest = after;
        if close == "#}" {
            out.push_str(inside);
            continue;
        }
        let lead = inside.len() - inside.trim_start_matches(['-', '+']).trim_start().len();
        let (lead, mut body) = inside.split_at(lead);
        out.push_str(lead);
        if close == "%}"
            && let Some(expression) = body.strip_prefix("do")
            && expression.starts_with(|c: char| c.is_whitespace() || c == '(')
        {
            out.push_str("set _do =");
            body = expression;
        }
        let colon = body.trim_end_matches(['-', '+']).trim_end();
        let body = match colon.strip_suffix(':') {
            Some(before) if close == "%}" => format!("{before} {}", &body[colon.len()..]),
            _ => body.to_owned(),
        };
        out.push_str(&tuple_subscripts(&body));
    }
    out.push_str(rest);
    out
}

/// `x[a, b]` as `x[(a, b)]`.
fn tuple_subscripts(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        let subscript = rest[..open].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ')' | ']'));
        out.push_str(&rest[..=open]);
        rest = &rest[open + 1..];
        let mut depth = 0usize;
        let end = rest.char_indices().find(|(_, c)| match c {
            '[' | '(' | '{' => {
                depth += 1;
                false
            }
            ']' if depth == 0 => true,
            ']' | ')' | '}' => {
                depth = depth.saturating_sub(1);
                false
            }
            _ => false,
        });
        if let (true, Some((end, _))) = (subscript, end)
            && super::blocks::split_commas(&rest[..end]).len() > 1
        {
            out.push('(');
            out.push_str(&rest[..end]);
            out.push(')');
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    out
}

fn lower_tree(tree: &ast::Stmt<'_>, text: &str, part: Part<'_>) -> Template {
    let lower = Lower { text, part };
    let body = match tree {
        ast::Stmt::Template(template) => lower.nodes(&template.children),
        other => lower.nodes(std::slice::from_ref(other)),
    };
    Template { body, origin: Arc::clone(part.origin) }
}

struct Lower<'t> {
    text: &'t str,
    part: Part<'t>,
}

impl Lower<'_> {
    fn place(&self, span: Span) -> Place {
        let width = if span.start_line == span.end_line { span.end_col.saturating_sub(span.start_col) } else { 1 };
        self.part.place(usize::from(span.start_line).max(1), usize::from(span.start_col), usize::from(width))
    }

    fn nodes(&self, statements: &[ast::Stmt<'_>]) -> Vec<Node> {
        statements.iter().filter_map(|statement| self.node(statement)).collect()
    }

    fn node(&self, statement: &ast::Stmt<'_>) -> Option<Node> {
        Some(match statement {
            ast::Stmt::Template(template) => {
                Node::With { assignments: Vec::new(), body: self.nodes(&template.children) }
            }
            ast::Stmt::EmitRaw(raw) => {
                if raw.raw.is_empty() {
                    return None;
                }
                Node::Text(raw.raw.into(), self.place(raw.span()))
            }
            ast::Stmt::EmitExpr(emit) => Node::Emit(self.expression(&emit.expr)),
            ast::Stmt::IfCond(condition) => Node::If {
                condition: self.expression(&condition.expr),
                then: self.nodes(&condition.true_body),
                otherwise: self.nodes(&condition.false_body),
            },
            ast::Stmt::ForLoop(for_loop) => {
                let span = for_loop.span();
                let source = self.text.get(span.start_offset as usize..span.end_offset as usize).unwrap_or(self.text);
                Node::For(Arc::new(ForLoop {
                    target: self.target(&for_loop.target),
                    iterable: self.expression(&for_loop.iter),
                    condition: for_loop.filter_expr.as_ref().map(|condition| self.expression(condition)),
                    recursive: for_loop.recursive,
                    body: self.nodes(&for_loop.body),
                    otherwise: self.nodes(&for_loop.else_body),
                    uses_loop: for_loop.recursive || source.contains("loop"),
                }))
            }
            ast::Stmt::WithBlock(with) => Node::With {
                assignments: with
                    .assignments
                    .iter()
                    .map(|(target, value)| (self.target(target), self.expression(value)))
                    .collect(),
                body: self.nodes(&with.body),
            },
            ast::Stmt::Set(set) => {
                let value = self.expression(&set.expr);
                match &set.target {
                    ast::Expr::Var(name) if name.id == "_do" => Node::Do(value),
                    target => Node::Set { target: self.target(target), value },
                }
            }
            ast::Stmt::SetBlock(set) => Node::SetBlock {
                target: self.target(&set.target),
                filters: set.filter.as_ref().map(|filter| self.expression(filter)),
                body: self.nodes(&set.body),
            },
            ast::Stmt::AutoEscape(block) => Node::With { assignments: Vec::new(), body: self.nodes(&block.body) },
            ast::Stmt::FilterBlock(block) => {
                Node::Filter { filters: self.expression(&block.filter), body: self.nodes(&block.body) }
            }
            ast::Stmt::Block(block) => Node::With { assignments: Vec::new(), body: self.nodes(&block.body) },
            ast::Stmt::Macro(function) => Node::Macro(Arc::new(self.function(function))),
            ast::Stmt::CallBlock(block) => Node::CallBlock {
                call: Box::new(self.call(&block.call)),
                place: self.place(block.call.span()),
                caller: Arc::new(self.function(&block.macro_decl)),
            },
            ast::Stmt::Continue(_) => Node::Continue,
            ast::Stmt::Break(_) => Node::Break,
            ast::Stmt::Do(statement) => Node::Do(Expression {
                kind: Kind::Call(Box::new(self.call(&statement.call))),
                place: self.place(statement.call.span()),
            }),
            ast::Stmt::Import(import) => self.refused("import", import.span()),
            ast::Stmt::FromImport(import) => self.refused("from", import.span()),
            ast::Stmt::Extends(extends) => self.refused("extends", extends.span()),
            ast::Stmt::Include(include) => self.refused("include", include.span()),
        })
    }

    /// dbt gives its templates no loader, so these tags fail when they are reached; so they do here.
    fn refused(&self, tag: &str, span: Span) -> Node {
        let place = self.place(span);
        let callee = Expression { kind: Kind::Name(format!("{{% {tag} %}}").into()), place };
        Node::Do(Expression { kind: Kind::Call(Box::new(Call { callee, arguments: Vec::new() })), place })
    }

    fn function(&self, declaration: &ast::Spanned<ast::Macro<'_>>) -> Function {
        let required = declaration.args.len() - declaration.defaults.len();
        let parameters = declaration
            .args
            .iter()
            .enumerate()
            .map(|(index, argument)| {
                let name: Arc<str> = match argument {
                    ast::Expr::Var(name) => name.id.into(),
                    other => other.description().into(),
                };
                let default = index.checked_sub(required).map(|index| self.expression(&declaration.defaults[index]));
                (name, default)
            })
            .collect::<Vec<_>>();
        let span = declaration.span();
        let source = self.text.get(span.start_offset as usize..span.end_offset as usize).unwrap_or(self.text);
        let uses = |word: &str| source.contains(word) && !parameters.iter().any(|(name, _)| &**name == word);
        Function {
            name: declaration.name.into(),
            body: self.nodes(&declaration.body),
            uses_varargs: uses("varargs"),
            uses_kwargs: uses("kwargs"),
            uses_caller: uses("caller"),
            parameters,
            origin: Arc::clone(self.part.origin),
        }
    }

    fn target(&self, target: &ast::Expr<'_>) -> Target {
        match target {
            ast::Expr::Var(name) => Target::Name(name.id.into()),
            ast::Expr::GetAttr(attribute) => Target::Attribute(self.expression(&attribute.expr), attribute.name.into()),
            ast::Expr::List(list) => Target::Several(list.items.iter().map(|item| self.target(item)).collect()),
            ast::Expr::Tuple(list) => Target::Several(list.items.iter().map(|item| self.target(item)).collect()),
            other => Target::Name(other.description().into()),
        }
    }

    fn boxed(&self, expression: &ast::Expr<'_>) -> Box<Expression> {
        Box::new(self.expression(expression))
    }

    fn expression(&self, expression: &ast::Expr<'_>) -> Expression {
        let kind = match expression {
            ast::Expr::Var(name) => Kind::Name(name.id.into()),
            ast::Expr::Const(constant) => Kind::Constant(self.constant(&constant.value, constant.span())),
            ast::Expr::List(list) => Kind::List(list.items.iter().map(|item| self.expression(item)).collect()),
            ast::Expr::Tuple(list) => Kind::Tuple(list.items.iter().map(|item| self.expression(item)).collect()),
            ast::Expr::Map(map) => Kind::Dict(
                map.keys
                    .iter()
                    .zip(&map.values)
                    .map(|(key, value)| (self.expression(key), self.expression(value)))
                    .collect(),
            ),
            ast::Expr::GetAttr(attribute) => Kind::Attribute(self.boxed(&attribute.expr), attribute.name.into()),
            ast::Expr::GetItem(item) => Kind::Item(self.boxed(&item.expr), self.boxed(&item.subscript_expr)),
            ast::Expr::Slice(slice) => {
                let part = |part: &Option<ast::Expr<'_>>| part.as_ref().map(|part| self.expression(part));
                Kind::Slice(Box::new([
                    Some(self.expression(&slice.expr)),
                    part(&slice.start),
                    part(&slice.stop),
                    part(&slice.step),
                ]))
            }
            ast::Expr::Call(call) => Kind::Call(Box::new(self.call(call))),
            ast::Expr::Filter(filter) => Kind::Filter(
                filter.expr.as_ref().map(|subject| self.boxed(subject)),
                filter.name.into(),
                self.arguments(&filter.args),
            ),
            ast::Expr::Test(test) => Kind::Test(self.boxed(&test.expr), test.name.into(), self.arguments(&test.args)),
            ast::Expr::UnaryOp(unary) => match unary.op {
                ast::UnaryOpKind::Not => Kind::Not(self.boxed(&unary.expr)),
                ast::UnaryOpKind::Neg => Kind::Negative(self.boxed(&unary.expr)),
            },
            ast::Expr::BinOp(operation) => self.binary(operation),
            ast::Expr::Compare(compare) => Kind::Compare(
                self.boxed(&compare.expr),
                compare
                    .ops
                    .iter()
                    .map(|operation| {
                        let comparison = match operation.op {
                            ast::CompareOpKind::Eq => Comparison::Equal,
                            ast::CompareOpKind::Ne => Comparison::NotEqual,
                            ast::CompareOpKind::Lt => Comparison::Less,
                            ast::CompareOpKind::Lte => Comparison::LessOrEqual,
                            ast::CompareOpKind::Gt => Comparison::Greater,
                            ast::CompareOpKind::Gte => Comparison::GreaterOrEqual,
                            ast::CompareOpKind::In => Comparison::In,
                            ast::CompareOpKind::NotIn => Comparison::NotIn,
                        };
                        (comparison, self.expression(&operation.expr))
                    })
                    .collect(),
            ),
            ast::Expr::IfExpr(choice) => Kind::Choice(
                Box::new([self.expression(&choice.test_expr), self.expression(&choice.true_expr)]),
                choice.false_expr.as_ref().map(|otherwise| self.boxed(otherwise)),
            ),
        };
        Expression { kind, place: self.place(expression.span()) }
    }

    fn binary(&self, operation: &ast::Spanned<ast::BinOp<'_>>) -> Kind {
        let left = &operation.left;
        let right = &operation.right;
        let compare = |comparison| Kind::Compare(self.boxed(left), vec![(comparison, self.expression(right))]);
        let arithmetic = |operator| Kind::Binary(operator, self.boxed(left), self.boxed(right));
        match operation.op {
            ast::BinOpKind::Eq => compare(Comparison::Equal),
            ast::BinOpKind::Ne => compare(Comparison::NotEqual),
            ast::BinOpKind::Lt => compare(Comparison::Less),
            ast::BinOpKind::Lte => compare(Comparison::LessOrEqual),
            ast::BinOpKind::Gt => compare(Comparison::Greater),
            ast::BinOpKind::Gte => compare(Comparison::GreaterOrEqual),
            ast::BinOpKind::In => compare(Comparison::In),
            ast::BinOpKind::ScAnd => Kind::And(self.boxed(left), self.boxed(right)),
            ast::BinOpKind::ScOr => Kind::Or(self.boxed(left), self.boxed(right)),
            ast::BinOpKind::Add => arithmetic(BinaryOperator::Add),
            ast::BinOpKind::Sub => arithmetic(BinaryOperator::Subtract),
            ast::BinOpKind::Mul => arithmetic(BinaryOperator::Multiply),
            ast::BinOpKind::Div => arithmetic(BinaryOperator::Divide),
            ast::BinOpKind::FloorDiv => arithmetic(BinaryOperator::FloorDivide),
            ast::BinOpKind::Rem => arithmetic(BinaryOperator::Remainder),
            ast::BinOpKind::Pow => arithmetic(BinaryOperator::Power),
            ast::BinOpKind::Concat => {
                let mut parts = Vec::new();
                self.concatenation(left, &mut parts);
                parts.push(self.expression(right));
                Kind::Concatenate(parts)
            }
        }
    }

    fn concatenation(&self, expression: &ast::Expr<'_>, parts: &mut Vec<Expression>) {
        if let ast::Expr::BinOp(operation) = expression
            && matches!(operation.op, ast::BinOpKind::Concat)
        {
            self.concatenation(&operation.left, parts);
            parts.push(self.expression(&operation.right));
        } else {
            parts.push(self.expression(expression));
        }
    }

    fn call(&self, call: &ast::Spanned<ast::Call<'_>>) -> Call {
        Call { callee: self.expression(&call.expr), arguments: self.arguments(&call.args) }
    }

    fn arguments(&self, arguments: &[ast::CallArg<'_>]) -> Vec<CallArgument> {
        arguments
            .iter()
            .map(|argument| match argument {
                ast::CallArg::Pos(value) => CallArgument::Positional(self.expression(value)),
                ast::CallArg::Kwarg(name, value) => CallArgument::Keyword((*name).into(), self.expression(value)),
                ast::CallArg::PosSplat(value) => CallArgument::Splat(self.expression(value)),
                ast::CallArg::KwargSplat(value) => CallArgument::KeywordSplat(self.expression(value)),
            })
            .collect()
    }

    fn constant(&self, value: &minijinja::Value, span: Span) -> Value {
        use minijinja::value::ValueKind;
        match value.kind() {
            ValueKind::Bool => Value::Bool(value.is_true()),
            ValueKind::Number if value.is_integer() => match i128::try_from(value.clone()) {
                Ok(number) => Value::Int(number),
                Err(_) => Value::None,
            },
            ValueKind::Number => Value::Float(f64::try_from(value.clone()).unwrap_or(f64::NAN)),
            ValueKind::String => {
                let source = self.text.get(span.start_offset as usize..span.end_offset as usize).unwrap_or_default();
                match source.contains('\\').then(|| python_string(source)).flatten() {
                    Some(text) => Value::str(text),
                    None => Value::str(value.as_str().unwrap_or_default()),
                }
            }
            _ => Value::None,
        }
    }
}

/// The text of a string literal by Python's escapes, of which minijinja knows only JSON's and a few more: an unknown
/// escape keeps its backslash. `None` for anything but one literal.
fn python_string(literal: &str) -> Option<String> {
    let quote = literal.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = literal.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c == quote {
            return None;
        }
        if c != '\\' {
            out.push(c);
            continue;
        }
        let escape = chars.next()?;
        let digits = |chars: &mut std::str::Chars<'_>, count: usize| {
            let text = chars.as_str().get(..count)?;
            let code = u32::from_str_radix(text, 16).ok()?;
            *chars = chars.as_str()[count..].chars();
            char::from_u32(code)
        };
        match escape {
            '\n' => {}
            '\\' | '\'' | '"' => out.push(escape),
            'a' => out.push('\x07'),
            'b' => out.push('\x08'),
            'f' => out.push('\x0c'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'v' => out.push('\x0b'),
            'x' => out.push(digits(&mut chars, 2)?),
            'u' => out.push(digits(&mut chars, 4)?),
            'U' => out.push(digits(&mut chars, 8)?),
            '0'..='7' => {
                let mut code = escape.to_digit(8)?;
                for _ in 0..2 {
                    let Some(digit) = chars.as_str().chars().next().and_then(|c| c.to_digit(8)) else { break };
                    code = code * 8 + digit;
                    chars.next();
                }
                out.push(char::from_u32(code)?);
            }
            other => {
                out.push('\\');
                out.push(other);
            }
        }
    }
    Some(out)
}

/// A line of a template with the place in it, for errors.
pub(super) fn location(origin: &Origin, place: Place) -> Location {
    let line = place.line as usize;
    let source_line =
        line.checked_sub(origin.first_line).and_then(|index| origin.text.lines().nth(index)).map(str::to_owned);
    Location {
        path: origin.path.clone().into(),
        line: Some(line),
        column: Some(place.column as usize),
        source_line,
        width: place.width as usize,
    }
}

/// minijinja's complaint as Jinja2 would put it, since dbt's users know those.
fn in_jinjas_words(detail: &str, found: &str) -> String {
    let token = |name: &str| match name.trim_matches('`') {
        "end of variable block" => "end of print statement".to_owned(),
        "end of block" => "end of statement block".to_owned(),
        "end of input" => "end of template".to_owned(),
        "identifier" if !found.is_empty() => found.to_owned(),
        "identifier" => "name".to_owned(),
        other => other.to_owned(),
    };
    let Some(rest) = detail.strip_prefix("unexpected ") else { return detail.to_owned() };
    match rest.split_once(", expected ") {
        Some(("end of input", expected)) => format!("unexpected end of template, expected '{}'.", token(expected)),
        Some((unexpected, "expression")) => format!("Expected an expression, got '{}'", token(unexpected)),
        Some((unexpected, expected)) => {
            let expected = match expected.trim_matches('`') {
                "identifier" => "name".to_owned(),
                other => token(other),
            };
            format!("expected token '{expected}', got '{}'", token(unexpected))
        }
        None if matches!(rest, "end of block" | "end of variable block") => {
            format!("Expected an expression, got '{}'", token(rest))
        }
        None => format!("unexpected '{}'", token(rest)),
    }
}

fn syntax_error(error: &minijinja::Error, text: &str, part: Part<'_>) -> RenderError {
    let (message, place) = match super::blocks::diagnose(text) {
        Some((message, line, column)) => (message, part.place(line, column, 1)),
        None => {
            let line = error.line().unwrap_or(1).max(1);
            let column = error.range().map_or(0, |range| {
                let before = text.get(..range.start).unwrap_or_default();
                before.rsplit('\n').next().unwrap_or_default().chars().count()
            });
            let detail = error.detail().map_or_else(|| error.to_string(), str::to_owned);
            let found = error.range().and_then(|range| text.get(range)).unwrap_or_default();
            (in_jinjas_words(&detail, found), part.place(line, column, error.range().map_or(1, |range| range.len())))
        }
    };
    let mut failure = RenderError::compilation(message);
    failure.location = Some(Box::new(location(part.origin, place)));
    failure
}
