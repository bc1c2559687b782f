//! Who may ask: one user with one password. It compares, and stores nothing.

use axum::http::HeaderMap;
use base64::Engine as _;

use super::request::Parameters;
use crate::{config::Secret, engine::EngineError};

/// The server's one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    pub user: String,
    pub password: Secret,
}

impl Credentials {
    /// ClickHouse's `default` user with a password that nobody can guess.
    pub fn generate() -> Self {
        let password = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        Self { user: "default".into(), password: Secret::new(password) }
    }

    /// Checks what a request says of itself: X-ClickHouse-User and -Key, HTTP's basic scheme, or `user` and `password` in
    /// the URL, as ClickHouse takes them; none of them is the user `default` without a password.
    pub(super) fn check(&self, headers: &HeaderMap, parameters: &Parameters) -> Result<(), EngineError> {
        // A password may hold more than ASCII, which `to_str` refuses.
        let header = |name: &str| headers.get(name).and_then(|value| String::from_utf8(value.as_bytes().to_vec()).ok());
        let (user, password) = if let Some(user) = header("x-clickhouse-user") {
            (user, header("x-clickhouse-key").unwrap_or_default())
        } else if let Some(basic) = header("authorization").as_deref().and_then(basic) {
            basic
        } else {
            let parameter = |name: &str| parameters.get(name).unwrap_or_default().to_owned();
            let user = parameter("user");
            (if user.is_empty() { "default".into() } else { user }, parameter("password"))
        };
        // Both are always compared, so that the answer's time tells nothing of which was wrong.
        let user_is_right = equal(&user, &self.user);
        let password_is_right = equal(&password, self.password.expose());
        if user_is_right & password_is_right {
            return Ok(());
        }
        Err(super::statement::exception(
            516,
            "AUTHENTICATION_FAILED",
            format!("{user}: Authentication failed: password is incorrect, or there is no user with such name"),
        ))
    }
}

fn basic(value: &str) -> Option<(String, String)> {
    let (scheme, rest) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(rest.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// Compares in a time that does not depend on where the difference is.
fn equal(left: &str, right: &str) -> bool {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    let mut difference = left.len() ^ right.len();
    for (index, byte) in left.iter().enumerate() {
        difference |= usize::from(byte ^ right.get(index).unwrap_or(&0));
    }
    difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_saying_who_one_is_works() {
        let credentials = Credentials { user: "f1".into(), password: Secret::new("geheim") };
        let none = Parameters::default();
        let headers = |pairs: &[(&'static str, &str)]| {
            pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect::<HeaderMap>()
        };
        let ok = |headers: &HeaderMap, parameters: &Parameters| credentials.check(headers, parameters).is_ok();
        assert!(ok(&headers(&[("x-clickhouse-user", "f1"), ("x-clickhouse-key", "geheim")]), &none));
        assert!(ok(&headers(&[("authorization", "Basic ZjE6Z2VoZWlt")]), &none));
        let url = Parameters::new(vec![("user".into(), "f1".into()), ("password".into(), "geheim".into())]);
        assert!(ok(&HeaderMap::new(), &url));
        assert!(!ok(&HeaderMap::new(), &none));
        assert!(!ok(&headers(&[("x-clickhouse-user", "f1"), ("x-clickhouse-key", "geheim2")]), &none));
        assert!(!ok(&headers(&[("x-clickhouse-user", "f1")]), &url));
    }
}
