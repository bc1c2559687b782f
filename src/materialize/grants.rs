//! `grants`: privileges on a relation. In: `{privilege: [grantees]}`; out: GRANT and REVOKE of what differs.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{MaterializeError, Model};
use crate::{
    adapter::Adapter,
    engine::{quote_identifier, quote_string},
};

/// Makes the grants on the relation what the config says. The embedded engine has no users, so there the config is only
/// noted.
///
/// # Errors
/// A statement failed: the grantee does not exist, or the user may not grant.
pub fn apply_grants(model: &Model<'_>, adapter: &mut Adapter) -> Result<usize, MaterializeError> {
    let Some(grants) = model.config().map("grants").filter(|grants| !grants.is_empty()) else { return Ok(0) };
    if !adapter.capabilities().access_management {
        tracing::info!(relation = %model.relation, "grants are left out: this engine has no users");
        return Ok(0);
    }
    let mut wanted = BTreeSet::new();
    for (privilege, grantees) in grants {
        let grantees: Vec<String> = match grantees {
            Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            Value::String(one) => vec![one.clone()],
            _ => {
                return Err(MaterializeError::config(
                    "grants",
                    format!("`{privilege}` needs a list of users or roles"),
                ));
            }
        };
        wanted.extend(grantees.into_iter().map(|grantee| (privilege.to_uppercase(), grantee)));
    }
    let sql = format!(
        "SELECT DISTINCT upper(toString(access_type)), coalesce(user_name, role_name) FROM system.grants \
         WHERE database = {} AND table = {}",
        quote_string(&model.relation.schema),
        quote_string(&model.relation.identifier)
    );
    let live: BTreeSet<(String, String)> = adapter
        .rows(&sql)?
        .into_iter()
        .filter_map(|row| {
            let mut values = row.into_iter().flatten();
            Some((values.next()?, values.next()?))
        })
        .collect();
    let mut changed = 0;
    for (verb, preposition, pairs) in
        [("REVOKE", "FROM", live.difference(&wanted)), ("GRANT", "TO", wanted.difference(&live))]
    {
        for (privilege, grantee) in pairs {
            let values = json!({
                "verb": verb,
                "preposition": preposition,
                "privilege": privilege,
                "relation": model.relation.render(),
                "grantees": [quote_identifier(grantee)],
            });
            adapter.run_ddl("materialize/grant.sql", values)?;
            changed += 1;
        }
    }
    Ok(changed)
}
