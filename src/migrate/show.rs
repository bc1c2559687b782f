//! A plan as text: for people like a good diff, as JSON for machines, as SQL to read or run. In: a plan; out: text.

use std::fmt::Write as _;

use crate::printer::{human_bytes, human_count};

use super::{
    Plan,
    plan::{Action, PlannedChange},
};

/// The plan for a reader.
pub fn plan_text(plan: &Plan) -> String {
    let mut out = String::new();
    if plan.is_empty() {
        out.push_str("Nothing to do: the warehouse is as it should be.\n");
    }
    for change in &plan.changes {
        change_text(change, &mut out);
    }
    for note in &plan.notes {
        _ = writeln!(out, "note: {note}");
    }
    if !plan.is_empty() {
        out.push_str(&totals(plan));
    }
    out
}

fn change_text(change: &PlannedChange, out: &mut String) {
    let sign = match change.action {
        Action::Create => '+',
        Action::Alter | Action::Run => '~',
        Action::Replace | Action::Recreate | Action::Rebuild => '!',
    };
    let cost = match (change.rows, change.bytes) {
        (0, 0) => String::new(),
        (rows, bytes) => format!(", {} rows, {}", human_count(rows), human_bytes(bytes)),
    };
    _ = writeln!(out, "{sign} {} {} {} ({}{cost})", change.action, change.kind, change.object, change.class);
    for line in &change.summary {
        _ = writeln!(out, "    {line}");
    }
    for line in &change.why {
        _ = writeln!(out, "    because {line}");
    }
    if !change.dependents.is_empty() {
        _ = writeln!(out, "    read by {}", change.dependents.join(", "));
    }
    for line in &change.destructive {
        _ = writeln!(out, "    LOSES {line}");
    }
    for step in &change.steps {
        for sql in step.sql() {
            for line in sql.lines() {
                _ = writeln!(out, "      {line}");
            }
            _ = writeln!(out, "      ;");
        }
    }
    out.push('\n');
}

fn totals(plan: &Plan) -> String {
    let count = |action| plan.changes.iter().filter(|change| change.action == action).count();
    let mut parts = Vec::new();
    for (action, word) in [
        (Action::Create, "to create"),
        (Action::Alter, "to alter"),
        (Action::Replace, "to replace"),
        (Action::Recreate, "to recreate"),
        (Action::Rebuild, "to rebuild"),
        (Action::Run, "to run"),
    ] {
        let number = count(action);
        if number > 0 {
            parts.push(format!("{number} {word}"));
        }
    }
    format!("Plan {}: {}.\n", plan.id, parts.join(", "))
}

/// The plan as one SQL script, credentials hidden.
pub fn plan_sql(plan: &Plan) -> String {
    let mut out = String::new();
    for change in &plan.changes {
        _ = writeln!(out, "-- {} {} {} ({})", change.action, change.kind, change.object, change.class);
        for sql in change.steps.iter().flat_map(super::Step::sql) {
            _ = writeln!(out, "{sql};\n");
        }
    }
    out
}

/// The plan as JSON.
pub fn plan_json(plan: &Plan) -> String {
    serde_json::to_string_pretty(plan).unwrap_or_default()
}
