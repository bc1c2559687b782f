//! The rules that no compiler checks: who may do what, and which way dependencies point. Each failure says the rule and
//! its reason.

use std::path::Path;

use crate::harness::repository;

/// A rule over the text of source files.
struct Rule {
    /// What must not stand in a line.
    forbidden: &'static [&'static str],
    /// The folders or files, relative to src/, that the rule looks at; empty for all.
    within: &'static [&'static str],
    /// Those that may.
    except: &'static [&'static str],
    reason: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        forbidden: &["std::env::var", "env::vars", "env::var("],
        within: &[],
        except: &["config/"],
        reason: "only config reads the environment: settings are resolved once and arrive as values",
    },
    Rule {
        forbidden: &["io::stdout", "io::stderr", "println!", "eprintln!"],
        within: &[],
        except: &["printer.rs", "observe/log.rs"],
        reason: "only the printer writes to the terminal, so that --quiet, JSON logs and progress bars hold everywhere",
    },
    Rule {
        forbidden: &["reqwest::"],
        within: &[],
        except: &["extract/", "simulate/", "observe/", "project/packages"],
        reason: "only extract speaks HTTP to the API (and `deps` to package hosts)",
    },
    Rule {
        forbidden: &["aws_sdk_s3::", "aws_config::"],
        within: &[],
        except: &["lake/"],
        reason: "only lake speaks to S3",
    },
    Rule {
        forbidden: &["libloading::", "klickhouse::", "clickhouse::Client"],
        within: &[],
        except: &["engine/"],
        reason: "only engine speaks to ClickHouse",
    },
    Rule {
        forbidden: &["crate::engine::Session", "crate::lake::", "reqwest", "fs_err", "Utc::now", "SystemTime::now"],
        within: &["schema/", "ddl/", "render/"],
        except: &["schema/parquet.rs", "schema/footers.rs", "schema/live.rs", "ddl/templates.rs", "ddl/spec.rs"],
        reason: "schema, ddl and render are pure: values in, values out, no I/O, clock or environment",
    },
    Rule {
        forbidden: &["crate::materialize", "crate::snapshot::", "crate::migrate", "crate::extract", "crate::transform"],
        within: &["engine/", "lake/", "schema/", "ddl/", "render/", "project/"],
        except: &[],
        reason: "edges and pure code do not know the stages: dependencies point one way",
    },
];

/// Every rule holds in every file of src/.
#[test]
fn dependencies_point_one_way() {
    let source = repository().join("src");
    let mut broken = Vec::new();
    for entry in walkdir::WalkDir::new(&source).sort_by_file_name() {
        let entry = entry.unwrap();
        if entry.path().extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let path = entry.path().strip_prefix(&source).unwrap().to_string_lossy().replace('\\', "/");
        check(&path, &fs_err::read_to_string(entry.path()).unwrap(), &mut broken);
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

fn check(path: &str, text: &str, broken: &mut Vec<String>) {
    let code = text.split("#[cfg(test)]").next().unwrap_or(text);
    for rule in RULES {
        let inside = |places: &[&str]| places.iter().any(|place| path.starts_with(place));
        if (!rule.within.is_empty() && !inside(rule.within)) || inside(rule.except) {
            continue;
        }
        for (index, line) in code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            if let Some(word) = rule.forbidden.iter().find(|word| line.contains(**word)) {
                broken.push(format!("src/{path}:{}: `{word}`: {}", index + 1, rule.reason));
            }
        }
    }
}

/// Every module says what it owns.
#[test]
fn every_module_has_a_module_doc() {
    let missing: Vec<String> = walkdir::WalkDir::new(repository().join("src"))
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "rs"))
        .filter(|entry| !starts_with_doc(entry.path()))
        .map(|entry| entry.path().display().to_string())
        .collect();
    assert!(
        missing.is_empty(),
        "a file starts with `//!`, what it owns and what it never does:\n{}",
        missing.join("\n")
    );
}

fn starts_with_doc(path: &Path) -> bool {
    fs_err::read_to_string(path).unwrap().starts_with("//!")
}
