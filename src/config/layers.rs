//! The layers and their order: default, file, environment, flags; the last one that names a key wins.
//!
//! The serialised defaults are the schema: they say which keys exist and of which kind each value is. Each value is
//! tried on top of the defaults alone, so that a mistake is reported with its own key and origin, and all mistakes at
//! once.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::error::{ConfigError, Problem};
use super::{Config, limits};

/// What the name of an environment variable begins with.
const ENV_PREFIX: &str = "OUTLIVE_";

/// Keys whose values are shown to nobody.
const SECRETS: &[&str] = &["admin.token"];

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// The environment variable of this name.
    Env(String),
    /// The command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Env(name) => write!(f, "env:{name}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// What to read the configuration from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The file, if any; it must exist.
    pub file: Option<PathBuf>,
    /// Environment variables; those that are not `OUTLIVE_SECTION__KEY` are ignored.
    pub env: Vec<(String, String)>,
    /// Keys and values from the command line; later ones win.
    pub set: Vec<(String, String)>,
}

/// A configuration that the broker can start with, and where each value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// The values.
    pub config: Config,
    /// By `section.key`; a key that is not there has its default.
    origins: BTreeMap<String, Origin>,
}

impl Effective {
    /// Where the value of `section.key` came from.
    #[must_use]
    pub fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }
}

/// TOML that `--config` would take, with the origin behind each value; but secrets are hidden.
impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (section, keys) in &table_of(&self.config) {
            writeln!(f, "[{section}]")?;
            for (key, value) in keys.as_table().into_iter().flatten() {
                let path = format!("{section}.{key}");
                let origin = self.origin(&path);
                let is_hidden = SECRETS.contains(&path.as_str()) && value.as_str() != Some("");
                let hidden = Value::String("hidden".to_owned());
                let shown = if is_hidden { &hidden } else { value };
                writeln!(f, "{key} = {shown}  # {origin}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// One value that somebody set.
struct Leaf {
    section: String,
    key: String,
    value: Value,
    origin: Origin,
}

impl Leaf {
    fn path(&self) -> String {
        format!("{}.{}", self.section, self.key)
    }
}

/// Reads all layers.
///
/// # Errors
/// If the file cannot be read or parsed, a key does not exist, or a value is not allowed; all such keys are named.
pub fn load(sources: &Sources) -> Result<Effective, ConfigError> {
    let schema = table_of(&Config::default());
    let mut problems = Vec::new();
    let mut given = Vec::new();
    if let Some(path) = &sources.file {
        from_file(&schema, path, &mut given, &mut problems)?;
    }
    from_env(&schema, &sources.env, &mut given, &mut problems);
    from_flags(&schema, &sources.set, &mut given, &mut problems);

    let mut table = schema.clone();
    let mut origins = BTreeMap::new();
    for leaf in given {
        if let Err(problem) = try_alone(&schema, &leaf) {
            problems.push(problem);
            continue;
        }
        origins.insert(leaf.path(), leaf.origin.clone());
        put(&mut table, leaf);
    }
    if !problems.is_empty() {
        return Err(ConfigError::Problems(problems));
    }
    let config: Config = table
        .try_into()
        .map_err(|error: toml::de::Error| one(Problem::new("configuration", error.message())))?;
    let effective = Effective { config, origins };
    let problems: Vec<Problem> = effective
        .config
        .validate()
        .into_iter()
        .map(|problem| {
            let origin = effective.origin(&problem.key).clone();
            problem.from(&origin)
        })
        .collect();
    if problems.is_empty() {
        Ok(effective)
    } else {
        Err(ConfigError::Problems(problems))
    }
}

fn one(problem: Problem) -> ConfigError {
    ConfigError::Problems(vec![problem])
}

/// The configuration as sections of keys.
pub(super) fn table_of(config: &Config) -> Table {
    Table::try_from(config).expect("every field is a TOML value: numbers in range, no null")
}

/// Every key of a table of sections, as `section.key`.
pub(super) fn leaves(table: &Table) -> impl Iterator<Item = (String, &Value)> {
    table.iter().flat_map(|(section, keys)| {
        keys.as_table()
            .into_iter()
            .flatten()
            .map(move |(key, value)| (format!("{section}.{key}"), value))
    })
}

fn from_file(
    schema: &Table,
    path: &Path,
    given: &mut Vec<Leaf>,
    problems: &mut Vec<Problem>,
) -> Result<(), ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let table: Table = text.parse().map_err(|source| ConfigError::Syntax {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    let origin = Origin::File(path.to_owned());
    for (section, keys) in table {
        if let Err(problem) = section_of(schema, &section) {
            problems.push(problem.from(&origin));
            continue;
        }
        let Value::Table(keys) = keys else {
            problems.push(Problem::new(section, "is a section, not a key").from(&origin));
            continue;
        };
        for (key, value) in keys {
            match default_of(schema, &section, &key) {
                Ok(_) => given.push(Leaf {
                    section: section.clone(),
                    key,
                    value,
                    origin: origin.clone(),
                }),
                Err(problem) => problems.push(problem.from(&origin)),
            }
        }
    }
    Ok(())
}

fn from_env(
    schema: &Table,
    variables: &[(String, String)],
    given: &mut Vec<Leaf>,
    problems: &mut Vec<Problem>,
) {
    for (name, text) in variables {
        let Some((section, key)) = name
            .strip_prefix(ENV_PREFIX)
            .and_then(|rest| rest.split_once("__"))
        else {
            continue;
        };
        let (section, key) = (section.to_lowercase(), key.to_lowercase());
        let origin = Origin::Env(name.clone());
        from_text(schema, (section, key), text, origin, given, problems);
    }
}

fn from_flags(
    schema: &Table,
    set: &[(String, String)],
    given: &mut Vec<Leaf>,
    problems: &mut Vec<Problem>,
) {
    for (path, text) in set {
        match path.split_once('.') {
            Some((section, key)) => {
                let path = (section.to_owned(), key.to_owned());
                from_text(schema, path, text, Origin::Flag, given, problems);
            }
            None => problems
                .push(Problem::new(path, "is not of the form section.key").from(&Origin::Flag)),
        }
    }
}

fn from_text(
    schema: &Table,
    (section, key): (String, String),
    text: &str,
    origin: Origin,
    given: &mut Vec<Leaf>,
    problems: &mut Vec<Problem>,
) {
    match default_of(schema, &section, &key) {
        Ok(default) => given.push(Leaf {
            value: parse_like(default, text),
            section,
            key,
            origin,
        }),
        Err(problem) => problems.push(problem.from(&origin)),
    }
}

/// Reads `text` as a value of the kind that `default` has; what cannot be read so stays a string, and is then refused
/// with the kind that is expected.
fn parse_like(default: &Value, text: &str) -> Value {
    let string = || Value::String(text.to_owned());
    match default {
        Value::Integer(_) => text
            .trim()
            .parse()
            .map_or_else(|_| string(), Value::Integer),
        Value::Boolean(_) => text
            .trim()
            .parse()
            .map_or_else(|_| string(), Value::Boolean),
        // `[::1]:1883` begins like a TOML list and is none.
        Value::Array(_) => match format!("value = {text}").parse::<Table>() {
            Ok(mut table) => table.remove("value").unwrap_or_else(string),
            Err(_) => Value::Array(
                text.split(',')
                    .map(|item| Value::String(item.trim().to_owned()))
                    .collect(),
            ),
        },
        Value::String(_) | Value::Float(_) | Value::Datetime(_) | Value::Table(_) => string(),
    }
}

fn section_of<'a>(schema: &'a Table, section: &str) -> Result<&'a Table, Problem> {
    let found = schema.get(section).and_then(Value::as_table);
    found.ok_or_else(|| {
        let reason = format!("there is no such section; allowed are {}", names(schema));
        Problem::new(section, reason)
    })
}

fn default_of<'a>(schema: &'a Table, section: &str, key: &str) -> Result<&'a Value, Problem> {
    let keys = section_of(schema, section)?;
    keys.get(key).ok_or_else(|| {
        let reason = format!(
            "there is no such key; allowed in [{section}] are {}",
            names(keys)
        );
        Problem::new(format!("{section}.{key}"), reason)
    })
}

fn names(table: &Table) -> String {
    table.keys().cloned().collect::<Vec<_>>().join(", ")
}

/// Whether the value alone, everything else at its default, is one that the key can have.
fn try_alone(schema: &Table, leaf: &Leaf) -> Result<(), Problem> {
    let refuse = |reason: String| Err(Problem::new(leaf.path(), reason).from(&leaf.origin));
    let default = default_of(schema, &leaf.section, &leaf.key)?;
    if !default.same_type(&leaf.value) {
        return refuse(format!(
            "must be {}, but is {}",
            expected(default),
            leaf.value
        ));
    }
    if let Some(reason) = limits::check(&leaf.path(), &leaf.value) {
        return refuse(reason);
    }
    let mut table = schema.clone();
    put(
        &mut table,
        Leaf {
            section: leaf.section.clone(),
            key: leaf.key.clone(),
            value: leaf.value.clone(),
            origin: Origin::Default,
        },
    );
    match table.try_into::<Config>() {
        Ok(_) => Ok(()),
        Err(error) => refuse(format!(
            "{} is not allowed: {}",
            leaf.value,
            error.message()
        )),
    }
}

fn expected(default: &Value) -> &'static str {
    match default {
        Value::Integer(_) => "an integer without quotes, in the unit that the key names",
        Value::Boolean(_) => "true or false",
        Value::Array(_) => "a list",
        Value::String(_) => "a string",
        Value::Float(_) => "a number",
        Value::Datetime(_) => "a date",
        Value::Table(_) => "a section",
    }
}

/// Sets one `section.key` that is there.
pub(super) fn set(table: &mut Table, path: &str, value: Value) {
    if let Some((section, key)) = path.split_once('.')
        && let Some(keys) = table.get_mut(section).and_then(Value::as_table_mut)
    {
        keys.insert(key.to_owned(), value);
    }
}

fn put(table: &mut Table, leaf: Leaf) {
    if let Some(keys) = table.get_mut(&leaf.section).and_then(Value::as_table_mut) {
        keys.insert(leaf.key, leaf.value);
    }
}
