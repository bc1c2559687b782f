//! `Relation` and `Column` as template objects, and `api.Relation` and `api.Column`, which make them.

use std::sync::Arc;

use super::{
    super::{
        Arguments, Column, Interpreter, Object, Relation, RelationKind, RenderError, Value,
        operators::{self, type_error},
    },
    module,
};

/// A relation in a template.
struct RelationObject {
    relation: Relation,
}

/// A relation as a template value.
pub(crate) fn relation_value(relation: Relation) -> Value {
    Value::object(RelationObject { relation })
}

/// The relation behind a value; a dict with `schema` and `identifier` counts too.
pub(crate) fn relation_of(value: &Value) -> Option<Relation> {
    if let Some(object) = value.downcast::<RelationObject>() {
        return Some(object.relation.clone());
    }
    let text = |key: &str| value.get(key).and_then(|value| value.as_str().map(str::to_owned));
    match value {
        Value::Dict(_) => Some(Relation { schema: text("schema"), ..Relation::new("", text("identifier")?) }),
        _ => None,
    }
}

fn kind_text(kind: RelationKind) -> &'static str {
    match kind {
        RelationKind::Table => "table",
        RelationKind::View => "view",
        RelationKind::Cte => "cte",
        RelationKind::MaterializedView => "materialized_view",
        RelationKind::External => "external",
        RelationKind::Ephemeral => "ephemeral",
        RelationKind::Dictionary => "dictionary",
    }
}

fn kind_of(text: &str) -> Option<RelationKind> {
    Some(match text {
        "table" => RelationKind::Table,
        "view" => RelationKind::View,
        "cte" => RelationKind::Cte,
        "materialized_view" | "materializedview" => RelationKind::MaterializedView,
        "external" => RelationKind::External,
        "ephemeral" => RelationKind::Ephemeral,
        "dictionary" => RelationKind::Dictionary,
        _ => return None,
    })
}

/// `relation.type`: `None`, or the word.
fn parse_kind(value: Option<Value>) -> Result<Option<RelationKind>, RenderError> {
    match value {
        None | Some(Value::None | Value::Undefined(_)) => Ok(None),
        Some(value) => kind_of(&value.text()).map(Some).ok_or_else(|| {
            RenderError::runtime(format!(
                "'{value}' is not a type of relation; ClickHouse has table, view, materialized_view, dictionary, external"
            ))
        }),
    }
}

fn optional_text(value: Option<Value>) -> Option<String> {
    value.filter(|value| !value.is_none() && !value.is_undefined()).map(|value| value.text().to_string())
}

const METHODS: [&str; 16] = [
    "include",
    "quote",
    "render",
    "render_limited",
    "without_identifier",
    "replace_path",
    "incorporate",
    "replace",
    "derivative",
    "matches",
    "get",
    "quoted",
    "information_schema",
    "information_schema_only",
    "add_ephemeral_prefix",
    "create",
];

impl Object for RelationObject {
    fn type_name(&self) -> &str {
        "ClickHouseRelation"
    }

    fn text(&self) -> String {
        self.relation.to_string()
    }

    fn repr(&self) -> String {
        format!("<ClickHouseRelation {}>", self.relation.render())
    }

    // dbt's relations are Mappings, which packages use to tell them from strings.
    fn is_mapping(&self) -> bool {
        true
    }

    fn iterate(&self) -> Option<Vec<Value>> {
        Some(["path", "type", "quote_character", "include_policy", "quote_policy"].map(Value::from).to_vec())
    }

    fn length(&self) -> Option<usize> {
        Some(5)
    }

    fn has_method(&self, name: &str) -> bool {
        METHODS.contains(&name)
    }

    fn equals(&self, other: &Value) -> Option<bool> {
        Some(other.downcast::<Self>().is_some_and(|other| other.relation == self.relation))
    }

    fn to_json(&self) -> Option<serde_json::Value> {
        Some(serde_json::Value::String(self.relation.to_string()))
    }

    fn attribute(&self, name: &str, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        let relation = &self.relation;
        let is = |kind| Value::Bool(relation.kind == Some(kind));
        let text = |text: &Option<String>| Value::from(text.as_deref());
        Ok(Some(match name {
            "database" => Value::str(""),
            "schema" => text(&relation.schema),
            "identifier" | "name" | "table" => text(&relation.identifier),
            "type" => relation.kind.map_or(Value::None, |kind| Value::str(kind_text(kind))),
            "is_table" => is(RelationKind::Table),
            "is_view" => is(RelationKind::View),
            "is_cte" => is(RelationKind::Cte),
            "is_materialized_view" => is(RelationKind::MaterializedView),
            "is_dictionary" => is(RelationKind::Dictionary),
            "is_pointer" | "is_function" | "can_be_renamed" | "can_be_replaced" | "dbt_created" => Value::Bool(false),
            "is_temporary" => Value::Bool(relation.is_temporary),
            "can_exchange" => Value::Bool(relation.can_exchange),
            "can_on_cluster" => Value::Bool(relation.can_on_cluster),
            "should_on_cluster" => Value::Bool(!relation.include_identifier || relation.can_on_cluster),
            "is_refreshable" => Value::Bool(relation.is_refreshable),
            "refreshable_append" => Value::Bool(relation.refreshable_append),
            "mvs_pointing_to_it" => Value::list(Vec::new()),
            "limit" => relation.limit.map_or(Value::None, |limit| Value::Int(limit.into())),
            "require_alias" => Value::Bool(false),
            "quote_character" => Value::str("`"),
            "path" => Value::record([
                ("database", Value::str("")),
                ("schema", text(&relation.schema)),
                ("identifier", text(&relation.identifier)),
            ]),
            "include_policy" => Value::record([
                ("database", Value::Bool(false)),
                ("schema", Value::Bool(relation.include_schema)),
                ("identifier", Value::Bool(relation.include_identifier)),
            ]),
            "quote_policy" => Value::record([
                ("database", Value::Bool(true)),
                ("schema", Value::Bool(true)),
                ("identifier", Value::Bool(true)),
            ]),
            "event_time_filter" => relation.event_time_filter.as_ref().map_or(Value::None, |filter| {
                Value::record([
                    ("field_name", Value::str(filter.field_name.as_str())),
                    ("start", Value::from(filter.start.as_deref())),
                    ("end", Value::from(filter.end.as_deref())),
                ])
            }),
            "metadata" => Value::record([("type", "ClickHouseRelation")].map(|(key, value)| (key, value.into()))),
            "catalog" => Value::None,
            other => match class_constant(other) {
                Some(value) => value,
                None => return Ok(None),
            },
        }))
    }

    fn call_method(
        self: Arc<Self>,
        name: &str,
        arguments: &Arguments,
        interpreter: &mut Interpreter<'_>,
    ) -> Result<Option<Value>, RenderError> {
        let arguments = arguments.clone();
        let mut relation = self.relation.clone();
        Ok(Some(match name {
            "include" => {
                let [_database, schema, identifier] = arguments.bind(name, ["database", "schema", "identifier"], 0)?;
                let flag = |given: Option<Value>, current: bool| {
                    given.filter(|given| !given.is_none()).map_or(current, |given| given.is_true())
                };
                relation.include_schema = flag(schema, relation.include_schema);
                relation.include_identifier = flag(identifier, relation.include_identifier);
                relation_value(relation)
            }
            // dbt-clickhouse quotes every part, whatever the policy says.
            "quote" => {
                arguments.bind(name, ["database", "schema", "identifier"], 0)?;
                relation_value(relation)
            }
            "render" => Value::str(relation.render()),
            "render_limited" => {
                relation.event_time_filter = None;
                Value::str(relation.to_string())
            }
            "without_identifier" => {
                relation.include_identifier = false;
                relation.identifier = None;
                relation_value(relation)
            }
            "replace_path" => {
                for (key, value) in arguments.keywords {
                    set_path(&mut relation, &key, value);
                }
                relation_value(relation)
            }
            "incorporate" | "replace" => {
                for (key, value) in arguments.keywords {
                    match &*key {
                        "path" => {
                            if let Value::Dict(path) = &value {
                                for (part, value) in path.read_recursive().iter() {
                                    set_path(&mut relation, &part.0.text(), value.clone());
                                }
                            }
                        }
                        "type" => relation.kind = parse_kind(Some(value))?,
                        "can_exchange" => relation.can_exchange = value.is_true(),
                        "can_on_cluster" => relation.can_on_cluster = value.is_true(),
                        "is_temporary" => relation.is_temporary = value.is_true(),
                        "limit" => relation.limit = value.as_int().and_then(|limit| u64::try_from(limit).ok()),
                        _ => {}
                    }
                }
                relation_value(relation)
            }
            "derivative" => {
                let [suffix, kind, whole] =
                    arguments.bind(name, ["suffix", "relation_type", "interpret_suffix_as_full_identifier"], 1)?;
                let suffix = suffix.unwrap_or_default().text().to_string();
                let identifier = if whole.is_some_and(|whole| whole.is_true()) {
                    suffix
                } else {
                    relation.identifier.clone().unwrap_or_default() + &suffix
                };
                relation_value(Relation {
                    kind: parse_kind(kind)?.or(relation.kind),
                    can_on_cluster: relation.can_on_cluster,
                    schema: relation.schema,
                    ..Relation::new("", identifier)
                })
            }
            "matches" => {
                let [_database, schema, identifier] = arguments.bind(name, ["database", "schema", "identifier"], 0)?;
                let matches = |wanted: Option<Value>, part: &Option<String>| {
                    optional_text(wanted).is_none_or(|wanted| part.as_deref() == Some(wanted.as_str()))
                };
                Value::Bool(matches(schema, &relation.schema) && matches(identifier, &relation.identifier))
            }
            "get" => {
                let [key, default] = arguments.bind(name, ["key", "default"], 1)?;
                let found = self.attribute(&key.unwrap_or_default().text(), interpreter)?;
                found.unwrap_or_else(|| default.unwrap_or_default())
            }
            "quoted" => {
                let [identifier] = arguments.bind(name, ["identifier"], 1)?;
                Value::str(format!("`{}`", identifier.unwrap_or_default()))
            }
            "information_schema" | "information_schema_only" => {
                let [view] = arguments.bind(name, ["view_name"], 0)?;
                relation_value(match optional_text(view) {
                    Some(view) => Relation::new("INFORMATION_SCHEMA", view),
                    None => Relation { schema: None, ..Relation::new("", "INFORMATION_SCHEMA") },
                })
            }
            "create" | "add_ephemeral_prefix" => class_method(interpreter, name, arguments)?,
            _ => return Ok(None),
        }))
    }
}

fn set_path(relation: &mut Relation, part: &str, value: Value) {
    let value = optional_text(Some(value));
    match part {
        "schema" => relation.schema = value,
        "identifier" => relation.identifier = value,
        _ => {}
    }
}

fn class_constant(name: &str) -> Option<Value> {
    Some(Value::str(match name {
        "Table" => "table",
        "View" => "view",
        "CTE" => "cte",
        "External" => "external",
        "MaterializedView" => "materialized_view",
        "Dictionary" => "dictionary",
        "Ephemeral" => "ephemeral",
        _ => return None,
    }))
}

fn class_method(interpreter: &mut Interpreter<'_>, name: &str, mut arguments: Arguments) -> Result<Value, RenderError> {
    match name {
        "create" => {
            let flag = |value: Option<Value>| value.is_some_and(|value| value.is_true());
            let can_exchange = flag(arguments.take_keyword("can_exchange"));
            let can_on_cluster = flag(arguments.take_keyword("can_on_cluster"));
            let is_temporary = flag(arguments.take_keyword("is_temporary"));
            let limit = arguments.take_keyword("limit").and_then(|limit| limit.as_int());
            for ignored in ["quote_policy", "include_policy", "dbt_created", "quote_character", "mvs_pointing_to_it"] {
                arguments.take_keyword(ignored);
            }
            let [database, schema, identifier, kind] =
                arguments.bind("create", ["database", "schema", "identifier", "type"], 0)?;
            let schema = optional_text(schema);
            if let Some(database) = optional_text(database).filter(|database| !database.is_empty())
                && schema.as_deref() != Some(database.as_str())
            {
                return Err(RenderError::runtime(format!("Cannot set database {database} in clickhouse!")));
            }
            Ok(relation_value(Relation {
                schema,
                identifier: optional_text(identifier),
                kind: parse_kind(kind)?,
                can_exchange,
                can_on_cluster,
                is_temporary,
                limit: limit.and_then(|limit| u64::try_from(limit).ok()),
                ..Relation::new("", "")
            }))
        }
        "add_ephemeral_prefix" => {
            let [name] = arguments.bind("add_ephemeral_prefix", ["name"], 1)?;
            Ok(Value::str(format!("__dbt__cte__{}", name.unwrap_or_default())))
        }
        "scd_args" => {
            let [key, updated_at] = arguments.bind("scd_args", ["primary_key", "updated_at"], 2)?;
            let mut items = match key.unwrap_or_default() {
                keys @ Value::List(_) => keys.iterate().unwrap_or_default(),
                key => vec![key],
            };
            items.push(updated_at.unwrap_or_default());
            Ok(Value::list(items))
        }
        "create_from" => {
            let node = arguments.positional.last().cloned().unwrap_or_default();
            let mut text = |name: &str| interpreter.item(&node, &name.into()).map(|value| optional_text(Some(value)));
            let (schema, alias, identifier, name) =
                (text("schema")?, text("alias")?, text("identifier")?, text("name")?);
            Ok(relation_value(Relation {
                schema,
                ..Relation::new("", identifier.or(alias).or(name).unwrap_or_default())
            }))
        }
        "get_on_cluster" => {
            let [cluster, engine] = arguments.bind("get_on_cluster", ["cluster", "database_engine"], 0)?;
            let cluster = optional_text(cluster).unwrap_or_default();
            let engine = optional_text(engine).unwrap_or_default();
            Ok(Value::Bool(!cluster.trim().is_empty() && !engine.to_lowercase().contains("replicated")))
        }
        other => Err(type_error(format!("type object 'ClickHouseRelation' has no attribute '{other}'"))),
    }
}

/// `api.Relation` and `adapter.Relation`.
struct RelationClass;

pub(super) fn relation_class() -> Value {
    Value::object(RelationClass)
}

impl Object for RelationClass {
    fn type_name(&self) -> &str {
        "RelationProxy"
    }

    fn has_method(&self, name: &str) -> bool {
        matches!(name, "create" | "create_from" | "add_ephemeral_prefix" | "scd_args" | "get_on_cluster")
    }

    fn attribute(&self, name: &str, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        Ok(class_constant(name))
    }

    fn call_method(
        self: Arc<Self>,
        name: &str,
        arguments: &Arguments,
        interpreter: &mut Interpreter<'_>,
    ) -> Result<Option<Value>, RenderError> {
        if self.has_method(name) {
            return class_method(interpreter, name, arguments.clone()).map(Some);
        }
        Ok(None)
    }
}

// ---- columns ---------------------------------------------------------------------------------------------------------

/// What dbt-clickhouse reads out of a type.
struct Parsed {
    nullable: bool,
    low_cardinality: bool,
    inner: String,
}

fn parse_type(dtype: &str) -> Parsed {
    let mut inner = dtype.trim();
    let unwrap =
        |text: &str, name: &str| text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')').map(str::to_owned);
    let mut parsed = Parsed { nullable: false, low_cardinality: false, inner: String::new() };
    let without = unwrap(inner, "LowCardinality");
    if let Some(text) = &without {
        parsed.low_cardinality = true;
        inner = text;
    }
    let nullable = unwrap(inner, "Nullable");
    if let Some(text) = &nullable {
        parsed.nullable = true;
        inner = text;
    }
    parsed.inner = inner.to_owned();
    parsed
}

impl Parsed {
    fn is_string(&self) -> bool {
        let lower = self.inner.to_lowercase();
        lower.starts_with("fixedstring")
            || matches!(
                &*lower,
                "string"
                    | "longblob"
                    | "longtext"
                    | "tinytext"
                    | "text"
                    | "varchar"
                    | "mediumblob"
                    | "blob"
                    | "tinyblob"
                    | "char"
                    | "mediumtext"
            )
    }

    fn starts_with(&self, prefixes: &[&str]) -> bool {
        let lower = self.inner.to_lowercase();
        prefixes.iter().any(|prefix| lower.starts_with(prefix))
    }

    /// `Decimal(P, S)`; zeros where the type has no such form.
    fn decimal(&self) -> Option<(i64, i64)> {
        if !self.starts_with(&["decimal"]) {
            return None;
        }
        let inside = self.inner.strip_prefix("Decimal(").and_then(|rest| rest.strip_suffix(')'));
        let numbers = inside.and_then(|inside| {
            let (precision, scale) = inside.split_once(", ")?;
            Some((precision.parse().ok()?, scale.parse().ok()?))
        });
        Some(numbers.unwrap_or((0, 0)))
    }

    fn string_size(&self) -> i64 {
        let size = self.inner.strip_prefix("FixedString(").and_then(|rest| rest.strip_suffix(')'));
        size.and_then(|size| size.parse().ok()).unwrap_or(256)
    }

    fn data_type(&self) -> String {
        let inner = if self.is_string() {
            "String".to_owned()
        } else if let Some((precision, scale)) = self.decimal() {
            format!("Decimal({precision}, {scale})")
        } else {
            self.inner.clone()
        };
        let template = if self.low_cardinality { format!("LowCardinality({inner})") } else { inner.clone() };
        // dbt-clickhouse applies the two wrappers in this order.
        match (self.low_cardinality, self.nullable) {
            (true, true) => format!("LowCardinality(Nullable({inner}))"),
            (false, true) => format!("Nullable({inner})"),
            _ => template,
        }
    }
}

struct ColumnObject {
    column: Column,
}

/// A column as a template value.
pub(crate) fn column_value(column: Column) -> Value {
    Value::object(ColumnObject { column })
}

/// The column behind a value.
pub(crate) fn column_of(value: &Value) -> Option<Column> {
    value.downcast::<ColumnObject>().map(|object| object.column.clone())
}

impl Object for ColumnObject {
    fn type_name(&self) -> &str {
        "ClickHouseColumn"
    }

    fn text(&self) -> String {
        let parsed = parse_type(&self.column.dtype);
        let data_type = parsed.data_type();
        // dbt-clickhouse wraps the type a second time here.
        if parsed.nullable {
            format!("{} Nullable({data_type})", self.column.name)
        } else {
            format!("{} {data_type}", self.column.name)
        }
    }

    fn repr(&self) -> String {
        let parsed = parse_type(&self.column.dtype);
        let nullable = if parsed.nullable { "True" } else { "False" };
        format!("<ClickhouseColumn {} ({}, is nullable: {nullable})>", self.column.name, parsed.data_type())
    }

    fn equals(&self, other: &Value) -> Option<bool> {
        Some(other.downcast::<Self>().is_some_and(|other| other.column == self.column))
    }

    fn has_method(&self, name: &str) -> bool {
        matches!(
            name,
            "is_string"
                | "is_number"
                | "is_integer"
                | "is_float"
                | "is_numeric"
                | "string_size"
                | "can_expand_to"
                | "literal"
        ) || column_class_method(name)
    }

    fn attribute(&self, name: &str, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        let parsed = parse_type(&self.column.dtype);
        Ok(Some(match name {
            "name" | "column" => Value::str(self.column.name.as_str()),
            "dtype" => Value::str(parsed.inner),
            "data_type" => Value::str(parsed.data_type()),
            "quoted" => Value::str(format!("\"{}\"", self.column.name)),
            "is_nullable" => Value::Bool(parsed.nullable),
            "is_low_cardinality" => Value::Bool(parsed.low_cardinality),
            "char_size" if parsed.inner.starts_with("FixedString") => Value::from(parsed.string_size()),
            "char_size" => Value::None,
            "numeric_precision" => parsed.decimal().map_or(Value::None, |(precision, _)| Value::from(precision)),
            "numeric_scale" => parsed.decimal().map_or(Value::None, |(_, scale)| Value::from(scale)),
            _ => return Ok(None),
        }))
    }

    fn call_method(
        self: Arc<Self>,
        name: &str,
        arguments: &Arguments,
        _interpreter: &mut Interpreter<'_>,
    ) -> Result<Option<Value>, RenderError> {
        let parsed = parse_type(&self.column.dtype);
        let integer = parsed.starts_with(&["int", "uint"]);
        let float = parsed.starts_with(&["float"]);
        let numeric = parsed.starts_with(&["decimal"]);
        Ok(Some(match name {
            "is_string" => Value::Bool(parsed.is_string()),
            "is_integer" => Value::Bool(integer),
            "is_float" => Value::Bool(float),
            "is_numeric" => Value::Bool(numeric),
            "is_number" => Value::Bool(integer || float || numeric),
            "string_size" => {
                if !parsed.is_string() {
                    return Err(RenderError::runtime("Called string_size() on non-string field!"));
                }
                Value::from(parsed.string_size())
            }
            "can_expand_to" => {
                let [other] = arguments.clone().bind(name, ["other_column"], 1)?;
                let other = column_of(&other.unwrap_or_default()).map(|other| parse_type(&other.dtype));
                Value::Bool(other.is_some_and(|other| {
                    parsed.is_string() && other.is_string() && other.string_size() > parsed.string_size()
                }))
            }
            "literal" => {
                let [value] = arguments.clone().bind(name, ["value"], 1)?;
                Value::str(format!("to{}({})", parsed.inner, value.unwrap_or_default()))
            }
            other if column_class_method(other) => column_class_call(other, arguments.clone())?,
            _ => return Ok(None),
        }))
    }
}

/// `api.Column`.
struct ColumnClass;

pub(super) fn column_class() -> Value {
    Value::object(ColumnClass)
}

fn column_class_method(name: &str) -> bool {
    matches!(name, "create" | "translate_type" | "string_type" | "numeric_type" | "from_description" | "nested_type")
}

fn translate_type(dtype: &str) -> String {
    match &*dtype.to_uppercase() {
        "STRING" => "String".into(),
        "TIMESTAMP" => "DateTime".into(),
        "FLOAT" => "Float32".into(),
        "INTEGER" => "Int32".into(),
        _ => dtype.to_owned(),
    }
}

fn column_class_call(name: &str, arguments: Arguments) -> Result<Value, RenderError> {
    Ok(match name {
        "create" => {
            let [column, label] = arguments.bind(name, ["name", "label_or_dtype"], 2)?;
            let column = Column::new(
                column.unwrap_or_default().text().to_string(),
                translate_type(&label.unwrap_or_default().text()),
            );
            column_value(column)
        }
        "from_description" => {
            let [column, dtype] = arguments.bind(name, ["name", "raw_data_type"], 2)?;
            column_value(Column::new(
                column.unwrap_or_default().text().to_string(),
                dtype.unwrap_or_default().text().to_string(),
            ))
        }
        "translate_type" => {
            let [dtype] = arguments.bind(name, ["dtype"], 1)?;
            Value::str(translate_type(&dtype.unwrap_or_default().text()))
        }
        "string_type" => Value::str("String"),
        "numeric_type" => {
            let [_dtype, precision, scale] = arguments.bind(name, ["dtype", "precision", "scale"], 3)?;
            Value::str(format!("Decimal({}, {})", precision.unwrap_or_default(), scale.unwrap_or_default()))
        }
        "nested_type" => {
            let [dtype, low, nullable] = arguments.bind(name, ["dtype", "is_low_cardinality", "is_nullable"], 3)?;
            let is_true = |flag: Option<Value>| flag.is_some_and(|flag| flag.is_true());
            let parsed = Parsed {
                inner: dtype.unwrap_or_default().text().to_string(),
                low_cardinality: is_true(low),
                nullable: is_true(nullable),
            };
            Value::str(parsed.data_type())
        }
        other => return Err(type_error(format!("type object 'ClickHouseColumn' has no attribute '{other}'"))),
    })
}

impl Object for ColumnClass {
    fn type_name(&self) -> &str {
        "type"
    }

    fn repr(&self) -> String {
        "<class 'dbt.adapters.clickhouse.column.ClickHouseColumn'>".into()
    }

    fn is_callable(&self) -> bool {
        true
    }

    fn has_method(&self, name: &str) -> bool {
        column_class_method(name)
    }

    fn attribute(&self, name: &str, _interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        Ok((name == "TYPE_LABELS").then(|| {
            module(vec![
                ("STRING", "String".into()),
                ("TIMESTAMP", "DateTime".into()),
                ("FLOAT", "Float32".into()),
                ("INTEGER", "Int32".into()),
            ])
        }))
    }

    fn call(self: Arc<Self>, arguments: Arguments, _interpreter: &mut Interpreter<'_>) -> Result<Value, RenderError> {
        let [column, dtype] = arguments.bind("ClickHouseColumn", ["column", "dtype"], 2)?;
        let (column, dtype) = (column.unwrap_or_default(), dtype.unwrap_or_default());
        operators::defined(&column)?;
        Ok(column_value(Column::new(column.text().to_string(), dtype.text().to_string())))
    }

    fn call_method(
        self: Arc<Self>,
        name: &str,
        arguments: &Arguments,
        _interpreter: &mut Interpreter<'_>,
    ) -> Result<Option<Value>, RenderError> {
        if column_class_method(name) {
            return column_class_call(name, arguments.clone()).map(Some);
        }
        Ok(None)
    }
}
