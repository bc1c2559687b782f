//! dbt's checks of microbatch models. In and out: a manifest, in which `begin` then is a time as dbt writes it.

use serde_json::Value;

use super::Context;
use crate::{
    error::Location,
    project::{Manifest, Node, ProjectError, ResourceType, moment::parse_moment, package::python_repr},
};

const SIZES: [&str; 4] = ["hour", "day", "month", "year"];

/// What a microbatch model needs is there and of the right type; one whose inputs cannot be filtered is warned of.
pub(super) fn check(context: &Context<'_>, manifest: &mut Manifest) -> Result<(), ProjectError> {
    let is_one = |node: &Node| {
        node.resource_type == ResourceType::Model
            && node.config.materialized() == "incremental"
            && node.config.incremental_strategy() == Some("microbatch")
    };
    for node in manifest.nodes.values_mut().filter(|node| is_one(node)) {
        let begin = checked(node)?;
        node.config.0.insert("begin".into(), begin.into());
    }
    for node in manifest.nodes.values().filter(|node| is_one(node)) {
        let mut inputs = node.depends_on.nodes.iter().filter_map(|id| manifest.resource(id));
        if !inputs.any(|input| input.config().str("event_time").is_some()) {
            context.events.warning(format!(
                "The microbatch model '{}' has no 'ref' or 'source' input with an 'event_time' configuration. \nThis means no \
                 filtering can be applied and can result in unexpected duplicate records in the resulting microbatch model.",
                node.name
            ));
        }
    }
    Ok(())
}

/// The time that its `begin` is.
fn checked(node: &Node) -> Result<String, ProjectError> {
    let config = |key: &str| node.config.0.get(key).filter(|value| !value.is_null());
    let fail = |text: String| {
        let place = Location::line(node.file(), node.raw_code_line, None);
        Err(ProjectError::parsing(format!("Microbatch model '{}' must provide {text}", node.name)).at(place))
    };
    match config("event_time") {
        Some(Value::String(_)) => {}
        None => {
            return fail("an 'event_time' (string) config that indicates the name of the event time column.".into());
        }
        Some(other) => return fail(format!("an 'event_time' config of type string, but got: {}.", kind(other))),
    }
    let begin = match config("begin") {
        Some(Value::String(text)) => match parse_moment(text) {
            Some(begin) => begin.format("%Y-%m-%dT%H:%M:%S").to_string(),
            None => return fail(format!("a 'begin' config of valid datetime (ISO format), but got: {text}.")),
        },
        None => {
            return fail(
                "a 'begin' (datetime) config that indicates the earliest timestamp the microbatch model should be built from."
                    .into(),
            );
        }
        Some(other) => return fail(format!("a 'begin' config of type datetime, but got: {}.", kind(other))),
    };
    let size = config("batch_size");
    if !size.and_then(Value::as_str).is_some_and(|size| SIZES.contains(&size)) {
        let got = size.map_or("None".to_owned(), super::super::package::python_str);
        let sizes = python_repr(&SIZES.as_slice().into());
        return fail(format!("a 'batch_size' config that is one of {sizes}, but got: {got}."));
    }
    if let Some(other) = config("lookback").filter(|value| value.as_i64().is_none()) {
        return fail(format!("the optional 'lookback' config as type int, but got: {}).", kind(other)));
    }
    if let Some(other) = config("concurrent_batches").filter(|value| !value.is_boolean()) {
        return fail(format!("the optional 'concurrent_batches' config as type bool, but got: {}).", kind(other)));
    }
    Ok(begin)
}

/// Python's name of a type.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "<class 'NoneType'>",
        Value::Bool(_) => "<class 'bool'>",
        Value::Number(number) if number.is_i64() => "<class 'int'>",
        Value::Number(_) => "<class 'float'>",
        Value::String(_) => "<class 'str'>",
        Value::Array(_) => "<class 'list'>",
        Value::Object(_) => "<class 'dict'>",
    }
}
