//! What can go wrong between chpipe and ClickHouse.

use std::path::PathBuf;

/// A failure of an engine or of a statement.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// ClickHouse refused or failed the statement.
    #[error("Code {code}, {name}: {message}{}", of_query(query_id))]
    Server { code: i32, name: String, message: String, query_id: String },
    #[error("libchdb is not installed: there is no {}", listed(searched))]
    LibraryMissing { searched: Vec<PathBuf> },
    #[error("cannot load `{}`: {reason}", path.display())]
    Library { path: PathBuf, reason: String },
    #[error("cannot open the warehouse `{}`: {reason}", path.display())]
    Open { path: PathBuf, reason: String },
    /// Another process has the embedded directory.
    #[error("the warehouse `{}` is in use by {holder}", path.display())]
    Locked { path: PathBuf, holder: String },
    #[error("cannot reach ClickHouse at `{address}`: {reason}")]
    Unreachable { address: String, reason: String },
    /// `chpipe serve` is for a directory.
    #[error("there is nothing to serve: the target is a server already, `{address}`")]
    ServesAlready { address: String },
    #[error("the {engine} engine does not support {feature}")]
    Unsupported { engine: &'static str, feature: String },
    /// A column whose type has no Arrow form; `part` is the type inside it that is the reason.
    #[error("column `{column}` of type {type_name} cannot be read: there is no Arrow type for {part}")]
    NoArrowType { column: String, type_name: String, part: String },
    #[error("cannot read ClickHouse's answer: {reason}")]
    Protocol { reason: String },
    #[error("cannot write the result")]
    Output { source: std::io::Error },
    /// libchdb could not be fetched.
    #[error("cannot install libchdb {version}: {reason}")]
    Install { version: &'static str, reason: String, hint: Option<String> },
    #[error("interrupted")]
    Interrupted,
}

/// Where a server's log can be searched for the statement.
fn of_query(query_id: &str) -> String {
    if query_id.is_empty() { String::new() } else { format!(" (query_id {query_id})") }
}

fn listed(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| format!("`{}`", path.display())).collect::<Vec<_>>().join(", ")
}

impl EngineError {
    /// Reads ClickHouse's own text: `Code: 47. DB::Exception: Unknown … (UNKNOWN_IDENTIFIER)`.
    pub(crate) fn from_server_text(text: &str, query_id: &str) -> Self {
        let mut message = text.trim();
        let mut code = None;
        // Every layer that passes an exception on adds the same prefix and suffix again.
        while let Some(rest) = message.strip_prefix("Code: ") {
            let Some((number, rest)) = rest.split_once(". ") else { break };
            let Ok(number) = number.parse::<i32>() else { break };
            code.get_or_insert(number);
            message = rest.strip_prefix("DB::Exception: ").unwrap_or(rest);
        }
        let Some(code) = code else { return Self::Protocol { reason: message.to_owned() } };
        let mut name = "";
        loop {
            let sentence = message.strip_suffix('.').unwrap_or(message);
            let Some((rest, last)) = sentence.strip_suffix(')').and_then(|rest| rest.rsplit_once(" (")) else { break };
            // `(version 26.5.1.1 (official build))` is split at its inner parenthesis.
            if last == "official build)"
                && let Some((rest, _)) = rest.rsplit_once(" (version ")
            {
                message = rest.trim_end();
            } else if last.starts_with("version ") {
                message = rest.trim_end();
            } else if !last.is_empty() && last.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
            {
                name = last;
                message = rest.trim_end();
            } else {
                break;
            }
        }
        Self::Server {
            code,
            name: if name.is_empty() { "UNKNOWN".into() } else { name.to_owned() },
            message: message.strip_suffix('.').unwrap_or(message).to_owned(),
            query_id: query_id.to_owned(),
        }
    }

    /// ClickHouse's error code, where the server answered with one.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Server { code, .. } => Some(*code),
            _ => None,
        }
    }

    pub fn hint(&self) -> Option<String> {
        match self {
            Self::LibraryMissing { .. } => {
                Some("run `chpipe engine install`, or set CHPIPE_LIBCHDB to a libchdb.so you have".into())
            }
            Self::Locked { .. } => Some(
                "wait for it (`--lock-timeout SECONDS`), or let the first process be `chpipe serve`: others go through it".into(),
            ),
            // AUTHENTICATION_FAILED, and what servers before 20 called it.
            Self::Server { code: 192..=194 | 516, .. } => {
                Some("`user` and `password` of the target in profiles.yml are what was refused".into())
            }
            // S3_ERROR: chpipe itself has reached the store by then.
            Self::Server { code: 499, .. } => Some(
                "ClickHouse reads the files itself: check that it reaches the store, at `clickhouse_endpoint` of [lake] \
                 (CHPIPE_S3_CLICKHOUSE_ENDPOINT) where that differs from `endpoint`; then run again"
                    .into(),
            ),
            Self::Unreachable { reason, .. } if reason.starts_with("TLS") => Some(
                "look at `secure`, `verify` and `port` of the target in profiles.yml (with TLS a ClickHouse listens on 8443 for \
                 http, on 9440 for native)"
                    .into(),
            ),
            Self::Unreachable { .. } => Some(
                "is the server running? Its place is `host`, `port` and `secure` of the target in profiles.yml (8123 for \
                 `driver: http`, 9000 for native); the default target, `embedded`, needs none"
                    .into(),
            ),
            Self::ServesAlready { .. } => Some("any client can connect to it; or name an embedded target: `--target`".into()),
            Self::NoArrowType { column, .. } => Some(format!("select toString({column}), or another cast of it")),
            Self::Install { hint, .. } => hint.clone(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_texts_are_read() {
        let cases = [
            (
                "Code: 62. DB::Exception: Syntax error: failed. (SYNTAX_ERROR)",
                (62, "SYNTAX_ERROR", "Syntax error: failed"),
            ),
            (
                "Code: 73. DB::Exception: Code: 73. DB::Exception: Unknown format Nope. Maybe you meant: ['One']. \
                 (UNKNOWN_FORMAT) (version 26.5.1.1). (UNKNOWN_FORMAT)",
                (73, "UNKNOWN_FORMAT", "Unknown format Nope. Maybe you meant: ['One']"),
            ),
            (
                "Code: 60. DB::Exception: Table a.b does not exist (maybe c?). (UNKNOWN_TABLE) (version 25.8.1.1 (official build))",
                (60, "UNKNOWN_TABLE", "Table a.b does not exist (maybe c?)"),
            ),
            ("Code: 1. DB::Exception: no name", (1, "UNKNOWN", "no name")),
        ];
        for (text, expected) in cases {
            let EngineError::Server { code, name, message, .. } = EngineError::from_server_text(text, "") else {
                panic!("{text}");
            };
            assert_eq!((code, name.as_str(), message.as_str()), expected);
        }
    }
}
