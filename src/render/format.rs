//! Python's two ways to format: `"%s" % x` and `"{}".format(x)`, with the format specifications both share.

use super::{Arguments, RenderError, TextKey, Value, operators::defined};

fn error(message: impl Into<String>) -> RenderError {
    RenderError::compilation(message)
}

/// `format % arguments`.
pub(super) fn percent(format: &str, arguments: &Value) -> Result<String, RenderError> {
    let positional = match arguments {
        Value::Tuple(items) => items.to_vec(),
        other => vec![other.clone()],
    };
    let mut next = positional.iter();
    let mut used_mapping = false;
    let mut out = String::with_capacity(format.len() + 16);
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut value = None;
        if chars.peek() == Some(&'(') {
            chars.next();
            let name: String = chars.by_ref().take_while(|c| *c != ')').collect();
            let Value::Dict(map) = arguments else { return Err(error("format requires a mapping")) };
            let found = map.read_recursive().get(&TextKey(&name)).cloned();
            value = Some(found.ok_or_else(|| error(format!("'{name}'")))?);
            used_mapping = true;
        }
        let (mut left, mut zero, mut plus, mut space, mut alternate) = (false, false, false, false, false);
        while let Some(flag) = chars.peek() {
            match flag {
                '-' => left = true,
                '0' => zero = true,
                '+' => plus = true,
                ' ' => space = true,
                '#' => alternate = true,
                _ => break,
            }
            chars.next();
        }
        let mut take = |what: &str| next.next().cloned().ok_or_else(|| error(what.to_owned()));
        let number = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            let mut digits = String::new();
            while let Some(digit) = chars.peek().filter(|c| c.is_ascii_digit()) {
                digits.push(*digit);
                chars.next();
            }
            digits.parse::<usize>().ok()
        };
        let short = "not enough arguments for format string";
        let width = if chars.peek() == Some(&'*') {
            chars.next();
            take(short)?.as_int().and_then(|width| usize::try_from(width).ok())
        } else {
            number(&mut chars)
        };
        let mut precision = None;
        if chars.peek() == Some(&'.') {
            chars.next();
            precision = Some(number(&mut chars).unwrap_or(0));
        }
        let Some(conversion) = chars.next() else { return Err(error("incomplete format")) };
        if conversion == '%' {
            out.push('%');
            continue;
        }
        let value = match value {
            Some(value) => value,
            None => take(short)?,
        };
        defined(&value)?;
        let mut spec = Spec { fill: ' ', precision, plus, space, alternate, ..Spec::default() };
        spec.width = width.unwrap_or(0);
        spec.align = Some(if left { '<' } else { '>' });
        if zero && !left && conversion.is_ascii_alphabetic() && !matches!(conversion, 's' | 'r' | 'a' | 'c') {
            spec.fill = '0';
            spec.align = Some('=');
        }
        match conversion {
            's' => spec.pad_text(&limited(&value.text(), precision), &mut out),
            'r' | 'a' => spec.pad_text(&limited(&value.repr(), precision), &mut out),
            'd' | 'i' | 'u' => {
                let whole = match &value {
                    Value::Float(number) => Value::Int(*number as i128),
                    other => other.clone(),
                };
                if whole.as_int().is_none() {
                    return Err(error(format!(
                        "%{conversion} format: a real number is required, not {}",
                        value.type_name()
                    )));
                }
                spec.precision = None;
                spec.kind = Some('d');
                out.push_str(&spec.apply(&whole)?);
            }
            'x' | 'X' | 'o' | 'c' => {
                spec.kind = Some(conversion);
                out.push_str(&spec.apply(&value)?);
            }
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
                let Some(number) = value.as_float() else {
                    return Err(error(format!("must be real number, not {}", value.type_name())));
                };
                spec.kind = Some(conversion);
                out.push_str(&spec.apply(&Value::Float(number))?);
            }
            other => return Err(error(format!("unsupported format character '{other}' (0x{:x})", u32::from(other)))),
        }
    }
    if next.next().is_some() && !used_mapping && !matches!(arguments, Value::Dict(_)) {
        return Err(error("not all arguments converted during string formatting"));
    }
    Ok(out)
}

fn limited(text: &str, precision: Option<usize>) -> String {
    precision.map_or_else(|| text.to_owned(), |limit| text.chars().take(limit).collect())
}

/// `format.format(…)`. `attribute` looks up `x.name` and `x[key]`.
pub(super) fn braces(
    format: &str,
    arguments: &Arguments,
    attribute: &mut dyn FnMut(&Value, &str, bool) -> Result<Value, RenderError>,
) -> Result<String, RenderError> {
    let mut automatic = 0;
    render_braces(format, arguments, attribute, &mut automatic, 2)
}

fn render_braces(
    format: &str,
    arguments: &Arguments,
    attribute: &mut dyn FnMut(&Value, &str, bool) -> Result<Value, RenderError>,
    automatic: &mut usize,
    depth: usize,
) -> Result<String, RenderError> {
    let mut out = String::with_capacity(format.len() + 16);
    let mut rest = format;
    while let Some(position) = rest.find(['{', '}']) {
        out.push_str(&rest[..position]);
        let brace = &rest[position..=position];
        rest = &rest[position + 1..];
        if rest.starts_with(brace) {
            out.push_str(brace);
            rest = &rest[1..];
            continue;
        }
        if brace == "}" {
            return Err(error("Single '}' encountered in format string"));
        }
        let mut nesting = 0usize;
        let end = rest
            .char_indices()
            .find(|(_, c)| match c {
                '{' => {
                    nesting += 1;
                    false
                }
                '}' if nesting > 0 => {
                    nesting -= 1;
                    false
                }
                '}' => true,
                _ => false,
            })
            .map(|(index, _)| index)
            .ok_or_else(|| error("expected '}' before end of string"))?;
        let field = &rest[..end];
        rest = &rest[end + 1..];
        let (field, spec) = field.split_once(':').unwrap_or((field, ""));
        let (field, conversion) = field.split_once('!').unwrap_or((field, ""));
        let first = field.find(['.', '[']).unwrap_or(field.len());
        let (name, mut path) = field.split_at(first);
        let mut value = if name.is_empty() {
            *automatic += 1;
            positional(arguments, *automatic - 1)?
        } else if let Ok(index) = name.parse::<usize>() {
            positional(arguments, index)?
        } else {
            arguments
                .keywords
                .iter()
                .find(|(keyword, _)| **keyword == *name)
                .map(|(_, value)| value.clone())
                .ok_or_else(|| error(format!("'{name}'")))?
        };
        while !path.is_empty() {
            if let Some(after) = path.strip_prefix('.') {
                let end = after.find(['.', '[']).unwrap_or(after.len());
                value = attribute(&value, &after[..end], false)?;
                path = &after[end..];
            } else {
                let end = path.find(']').ok_or_else(|| error("Missing ']' in format string"))?;
                value = attribute(&value, &path[1..end], true)?;
                path = &path[end + 1..];
            }
        }
        let value = match conversion {
            "r" | "a" => Value::str(value.repr()),
            "s" => Value::Str(value.text()),
            _ => value,
        };
        let spec = if spec.contains('{') && depth > 0 {
            render_braces(spec, arguments, attribute, automatic, depth - 1)?
        } else {
            spec.to_owned()
        };
        if spec.is_empty() {
            value.write_text(&mut out);
        } else {
            out.push_str(&Spec::parse(&spec)?.apply(&value)?);
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn positional(arguments: &Arguments, index: usize) -> Result<Value, RenderError> {
    arguments.positional.get(index).cloned().ok_or_else(|| error("tuple index out of range"))
}

/// `[[fill]align][sign][#][0][width][,][.precision][type]`
#[derive(Debug, Clone, Default)]
pub(super) struct Spec {
    fill: char,
    align: Option<char>,
    plus: bool,
    space: bool,
    alternate: bool,
    width: usize,
    grouping: Option<char>,
    precision: Option<usize>,
    kind: Option<char>,
}

impl Spec {
    pub(super) fn parse(text: &str) -> Result<Self, RenderError> {
        let mut spec = Self { fill: ' ', ..Self::default() };
        let chars: Vec<char> = text.chars().collect();
        let mut index = 0;
        let is_align = |c: char| matches!(c, '<' | '>' | '^' | '=');
        if chars.len() > 1 && is_align(chars[1]) {
            spec.fill = chars[0];
            spec.align = Some(chars[1]);
            index = 2;
        } else if chars.first().is_some_and(|c| is_align(*c)) {
            spec.align = Some(chars[0]);
            index = 1;
        }
        if let Some(sign) = chars.get(index).filter(|c| matches!(c, '+' | '-' | ' ')) {
            spec.plus = *sign == '+';
            spec.space = *sign == ' ';
            index += 1;
        }
        if chars.get(index) == Some(&'#') {
            spec.alternate = true;
            index += 1;
        }
        if chars.get(index) == Some(&'0') {
            if spec.align.is_none() {
                spec.fill = '0';
                spec.align = Some('=');
            }
            index += 1;
        }
        let number = |index: &mut usize| {
            let start = *index;
            while chars.get(*index).is_some_and(char::is_ascii_digit) {
                *index += 1;
            }
            chars[start..*index].iter().collect::<String>().parse::<usize>().ok()
        };
        spec.width = number(&mut index).unwrap_or(0);
        if let Some(grouping) = chars.get(index).filter(|c| matches!(c, ',' | '_')) {
            spec.grouping = Some(*grouping);
            index += 1;
        }
        if chars.get(index) == Some(&'.') {
            index += 1;
            spec.precision = Some(number(&mut index).ok_or_else(|| error("Format specifier missing precision"))?);
        }
        spec.kind = chars.get(index).copied();
        if index + usize::from(spec.kind.is_some()) < chars.len() {
            return Err(error("Invalid format specifier"));
        }
        Ok(spec)
    }

    pub(super) fn apply(&self, value: &Value) -> Result<String, RenderError> {
        let mut out = String::new();
        let unknown = || {
            error(format!(
                "Unknown format code '{}' for object of type '{}'",
                self.kind.unwrap_or(' '),
                value.type_name()
            ))
        };
        match (self.kind, value) {
            (None | Some('s'), Value::Str(text)) => {
                self.pad_text(&limited(text, self.precision), &mut out);
            }
            (None, Value::Int(_) | Value::Bool(_)) | (Some('d' | 'x' | 'X' | 'o' | 'b' | 'c' | 'n'), _)
                if value.as_int().is_some() =>
            {
                let number = value.as_int().unwrap_or(0);
                let magnitude = number.unsigned_abs();
                let (prefix, digits) = match self.kind {
                    Some('x') => ("0x", format!("{magnitude:x}")),
                    Some('X') => ("0X", format!("{magnitude:X}")),
                    Some('o') => ("0o", format!("{magnitude:o}")),
                    Some('b') => ("0b", format!("{magnitude:b}")),
                    Some('c') => {
                        let c = u32::try_from(number).ok().and_then(char::from_u32).ok_or_else(unknown)?;
                        self.pad_text(&c.to_string(), &mut out);
                        return Ok(out);
                    }
                    _ => ("", magnitude.to_string()),
                };
                let digits = self.grouped(&digits);
                let prefix = if self.alternate { prefix } else { "" };
                self.pad_number(number < 0, prefix, &digits, &mut out);
            }
            (None, Value::Float(number)) if self.precision.is_none() => {
                let text = super::value::float_repr(number.abs());
                self.pad_number(number.is_sign_negative(), "", &self.grouped(&text), &mut out);
            }
            (None | Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | 'n' | '%'), _) if value.as_float().is_some() => {
                let number = value.as_float().unwrap_or(0.0);
                let magnitude = number.abs();
                let precision = self.precision.unwrap_or(6);
                let text = match self.kind {
                    Some('f' | 'F') => format!("{magnitude:.precision$}"),
                    Some('%') => format!("{:.precision$}%", magnitude * 100.0),
                    Some('e') => exponent(magnitude, precision),
                    Some('E') => exponent(magnitude, precision).to_uppercase(),
                    Some('G') => general(magnitude, precision, self.alternate).to_uppercase(),
                    _ => general(magnitude, precision, self.alternate),
                };
                self.pad_number(number.is_sign_negative(), "", &self.grouped(&text), &mut out);
            }
            (None, other) => self.pad_text(&other.text(), &mut out),
            _ => return Err(unknown()),
        }
        Ok(out)
    }

    fn grouped(&self, digits: &str) -> String {
        let Some(separator) = self.grouping else { return digits.to_owned() };
        let (whole, fraction) = digits.find('.').map_or((digits, ""), |dot| digits.split_at(dot));
        let mut out = String::new();
        for (index, digit) in whole.chars().enumerate() {
            if index > 0 && (whole.len() - index) % 3 == 0 {
                out.push(separator);
            }
            out.push(digit);
        }
        out + fraction
    }

    fn pad_number(&self, negative: bool, prefix: &str, digits: &str, out: &mut String) {
        let sign = if negative {
            "-"
        } else if self.plus {
            "+"
        } else if self.space {
            " "
        } else {
            ""
        };
        let length = sign.len() + prefix.len() + digits.chars().count();
        if self.align == Some('=') {
            out.push_str(sign);
            out.push_str(prefix);
            out.extend(std::iter::repeat_n(self.fill, self.width.saturating_sub(length)));
            out.push_str(digits);
        } else {
            self.pad(&format!("{sign}{prefix}{digits}"), length, '>', out);
        }
    }

    fn pad_text(&self, text: &str, out: &mut String) {
        self.pad(text, text.chars().count(), '<', out);
    }

    fn pad(&self, text: &str, length: usize, default: char, out: &mut String) {
        let missing = self.width.saturating_sub(length);
        let before = match self.align.unwrap_or(default) {
            '>' | '=' => missing,
            '^' => missing / 2,
            _ => 0,
        };
        out.extend(std::iter::repeat_n(self.fill, before));
        out.push_str(text);
        out.extend(std::iter::repeat_n(self.fill, missing - before));
    }
}

/// C's `%e`: at least two digits of exponent.
fn exponent(number: f64, precision: usize) -> String {
    let text = format!("{number:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    format!("{digits}e{sign}{exponent:0>2}")
}

/// C's `%g`.
fn general(number: f64, precision: usize, alternate: bool) -> String {
    let precision = precision.max(1);
    if number == 0.0 {
        return "0".into();
    }
    let rounded = format!("{number:.*e}", precision - 1);
    let power: i32 = rounded.split_once('e').and_then(|(_, power)| power.parse().ok()).unwrap_or(0);
    let strip = |text: String| {
        if alternate || !text.contains('.') {
            text
        } else {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    };
    if power < -4 || power >= i32::try_from(precision).unwrap_or(i32::MAX) {
        let text = exponent(number, precision - 1);
        let (digits, rest) = text.split_once('e').unwrap_or((&text, "+00"));
        format!("{}e{rest}", strip(digits.to_owned()))
    } else {
        let decimals = usize::try_from(i32::try_from(precision).unwrap_or(6) - 1 - power).unwrap_or(0);
        strip(format!("{number:.decimals$}"))
    }
}
