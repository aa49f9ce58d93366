//! The tables, read from `schema.cql`: what Cassandra is told, what the embedded store is made of, and
//! what both are checked against.
//!
//! Invariant: nothing else in the program lists columns or keys; statements are made from [`tables`].
//! Deliberately absent: a parser of CQL. It reads the one file beside it, whose form a test holds.

use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

use super::Config;

const SOURCE: &str = include_str!("schema.cql");

/// Version of the tables; goes up when one changes. In the embedded store it is the file's, in Cassandra each table's
/// comment has it.
pub(super) const VERSION: i64 = 2;
/// `Pitw` in ASCII: says whose file it is.
pub(super) const SQLITE_APPLICATION_ID: i64 = 0x5069_7477;

/// Extents outlive what they name by a day: a chunk written late never lacks its extent.
const EXTENTS_TTL_EXTRA_S: u64 = 86_400;
/// Windows of the chunks' compaction that a TTL is divided into: Cassandra's advice is 20 to 30.
const WINDOWS: u64 = 24;
/// Differences named in one message; more are counted.
const DIFFERENCES_NAMED_MAX: usize = 4;

/// A column's place in the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// At this place of the partition key.
    Partition(usize),
    /// At this place of the clustering key.
    Clustering(usize),
    /// Not in the key.
    None,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    /// CQL's word for it.
    pub(super) kind: String,
    pub(super) key: Key,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    /// The statement of `schema.cql`, not filled in.
    statement: String,
}

impl Table {
    /// `a, b, c`: every column in the file's order.
    pub(super) fn column_list(&self) -> String {
        self.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Key columns in the key's order.
    fn key(&self) -> Vec<&Column> {
        let mut key: Vec<_> = self.columns.iter().filter(|column| column.key != Key::None).collect();
        key.sort_by_key(|column| column.key);
        key
    }

    /// `?, ?, ?`: one for each column.
    fn placeholders(&self) -> String {
        vec!["?"; self.columns.len()].join(", ")
    }

    /// Writes one row in Cassandra.
    pub(super) fn insert_cql(&self, keyspace: &str) -> String {
        let (name, columns, values) = (&self.name, self.column_list(), self.placeholders());
        format!("INSERT INTO {keyspace}.{name} ({columns}) VALUES ({values})")
    }

    /// The same for SQLite: the row of the same key is replaced.
    pub(super) fn insert_sql(&self) -> String {
        let (name, columns, values) = (&self.name, self.column_list(), self.placeholders());
        format!("INSERT OR REPLACE INTO {name} ({columns}) VALUES ({values})")
    }

    /// Creates it in SQLite.
    pub(super) fn create_sql(&self) -> String {
        let mut sql = format!("CREATE TABLE IF NOT EXISTS {} (\n", self.name);
        for column in &self.columns {
            let null = if column.key == Key::None { "" } else { " NOT NULL" };
            let _ = writeln!(sql, "    {} {}{null},", column.name, sqlite_type(&column.kind));
        }
        let key: Vec<_> = self.key().into_iter().map(|column| column.name.as_str()).collect();
        // Large values do not belong into the tree that is searched by key.
        let large = self.columns.iter().any(|column| column.name == "data");
        let tail = if large { "" } else { ", WITHOUT ROWID" };
        let _ = write!(sql, "    PRIMARY KEY ({})\n) STRICT{tail}", key.join(", "));
        sql
    }

    /// How the columns that a store really has differ from these, in words; more columns than needed
    /// are fine as long as they are not in the key.
    pub(super) fn differences(&self, found: &[Column]) -> Vec<String> {
        let name = &self.name;
        if found.is_empty() {
            return vec![format!("table {name} is missing")];
        }
        let mut differences = Vec::new();
        for needed in &self.columns {
            let Some(column) = found.iter().find(|column| column.name == needed.name) else {
                differences.push(format!("column {name}.{} is missing", needed.name));
                continue;
            };
            if column.kind != needed.kind {
                differences.push(format!("column {name}.{} is {}, not {}", needed.name, column.kind, needed.kind));
            }
            if column.key != needed.key {
                differences.push(format!("column {name}.{} has another place in the key", needed.name));
            }
        }
        let known = |column: &Column| self.columns.iter().any(|needed| needed.name == column.name);
        for column in found.iter().filter(|column| column.key != Key::None && !known(column)) {
            differences.push(format!("column {name}.{} is in the key and should not be", column.name));
        }
        differences
    }
}

/// Differences as one sentence of bounded length.
pub(super) fn describe(differences: &[String]) -> String {
    let named = differences.iter().take(DIFFERENCES_NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    match differences.len().saturating_sub(DIFFERENCES_NAMED_MAX) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// Every table, in the file's order.
pub(super) fn tables() -> &'static [Table] {
    static TABLES: LazyLock<Vec<Table>> = LazyLock::new(|| {
        statements(SOURCE).into_iter().filter(|text| text.starts_with("CREATE TABLE")).map(|t| parse(&t)).collect()
    });
    &TABLES
}

/// The table `name`.
///
/// # Panics
/// If `schema.cql` has none: a bug of ours, which every test of a store shows.
pub(super) fn table(name: &str) -> &'static Table {
    tables().iter().find(|table| table.name == name).expect("schema.cql has the tables that the program names")
}

/// How a keyspace is to be made.
#[derive(Debug, Clone)]
pub(super) struct Options<'a> {
    /// The keyspace; its characters are checked with the URL.
    pub(super) keyspace: &'a str,
    /// Copies of each row.
    pub(super) replication: u32,
    /// Where the copies lie; anywhere if none.
    pub(super) datacenter: Option<&'a str>,
    /// How long rows are kept; for ever if none.
    pub(super) ttl: Option<Duration>,
}

impl<'a> Options<'a> {
    pub(super) fn new(keyspace: &'a str, config: &'a Config) -> Self {
        let Config { replication, ttl, .. } = *config;
        Self { keyspace, replication, datacenter: config.datacenter.as_deref(), ttl }
    }

    /// The statement that makes the keyspace.
    pub(super) fn create_keyspace(&self) -> String {
        let text = statements(SOURCE).into_iter().find(|text| text.starts_with("CREATE KEYSPACE"));
        self.fill(&text.expect("schema.cql makes the keyspace"))
    }

    /// The statement that makes `table`.
    pub(super) fn create_table(&self, table: &Table) -> String {
        self.fill(&table.statement)
    }

    /// The whole file, filled in, with its comments.
    pub(super) fn script(&self) -> String {
        // Lines `--!` speak of the file, not of the tables.
        let lines: Vec<_> = SOURCE.lines().filter(|line| !line.starts_with("--!")).collect();
        self.fill(&lines.join("\n")).trim_start().to_owned() + "\n"
    }

    /// Seconds that rows of `table` live, 0 = for ever.
    pub(super) fn ttl_s(&self, table: &Table) -> u64 {
        let ttl_s = self.ttl.map_or(0, |ttl| ttl.as_secs());
        match (ttl_s, &table.statement) {
            (0, _) => 0,
            (_, statement) if statement.contains("${ttl_s}") => ttl_s,
            (_, statement) if statement.contains("${extents_ttl_s}") => ttl_s + EXTENTS_TTL_EXTRA_S,
            _ => 0,
        }
    }

    fn fill(&self, text: &str) -> String {
        let ttl_s = self.ttl.map_or(0, |ttl| ttl.as_secs());
        let extents_ttl_s = if ttl_s == 0 { 0 } else { ttl_s + EXTENTS_TTL_EXTRA_S };
        let replication = match self.datacenter {
            Some(name) => format!("{{'class': 'NetworkTopologyStrategy', '{name}': {}}}", self.replication),
            None => format!("{{'class': 'SimpleStrategy', 'replication_factor': {}}}", self.replication),
        };
        let (unit, size) = window(ttl_s);
        text.replace("${keyspace}", self.keyspace)
            .replace("${replication}", &replication)
            .replace("${ttl_s}", &ttl_s.to_string())
            .replace("${extents_ttl_s}", &extents_ttl_s.to_string())
            .replace("${window_unit}", unit)
            .replace("${window_size}", &size.to_string())
            .replace("${version}", &VERSION.to_string())
    }
}

/// The embedded store's tables as SQL.
pub(super) fn sqlite_script() -> String {
    let head = format!("PRAGMA application_id = {SQLITE_APPLICATION_ID};\nPRAGMA user_version = {VERSION};\n");
    tables().iter().fold(head, |script, table| format!("{script}\n{};\n", table.create_sql()))
}

/// The version that a table's comment names; none if it is another program's, or older than versions are.
pub(super) fn version_in(comment: &str) -> Option<i64> {
    comment.strip_prefix("Pitwire, version ")?.parse().ok()
}

/// Unit and size of a compaction window for rows that live `ttl_s` seconds (0 = for ever).
fn window(ttl_s: u64) -> (&'static str, u64) {
    const DAY_S: u64 = 86_400;
    match ttl_s {
        0 => ("DAYS", 1),
        s if s <= WINDOWS * DAY_S => ("HOURS", s.div_ceil(WINDOWS * 3_600).max(1)),
        s => ("DAYS", s.div_ceil(WINDOWS * DAY_S)),
    }
}

/// SQLite's type for CQL's. `ANY` keeps a double as it is; `REAL` would make +0.0 of -0.0.
pub(super) fn sqlite_type(kind: &str) -> &'static str {
    match kind {
        "text" => "TEXT",
        "double" => "ANY",
        "blob" => "BLOB",
        _ => "INTEGER",
    }
}

/// The statements of a script, without comments.
fn statements(script: &str) -> Vec<String> {
    let bare: Vec<_> = script.lines().map(|line| line.split("--").next().unwrap_or_default().trim_end()).collect();
    let text = bare.join("\n");
    text.split(';').map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

/// A table from its statement, in the form that `schema.cql` has.
fn parse(statement: &str) -> Table {
    const FORM: &str = "schema.cql keeps the form that its test holds";
    let (head, rest) = statement.split_once('(').expect(FORM);
    let name = head.trim().rsplit('.').next().expect(FORM).to_owned();
    let (columns, key) = rest.split_once("PRIMARY KEY ((").expect(FORM);
    let (partition, rest) = key.split_once(')').expect(FORM);
    let (clustering, _options) = rest.split_once(')').expect(FORM);
    let names = |text: &str| -> Vec<String> {
        text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
    };
    let (partition, clustering) = (names(partition), names(clustering));
    let key_of = |name: &str| {
        let place = |key: &[String]| key.iter().position(|column| column == name);
        place(&partition).map(Key::Partition).or(place(&clustering).map(Key::Clustering)).unwrap_or(Key::None)
    };
    let columns = columns
        .split(',')
        .filter_map(|column| column.trim().split_once(' '))
        .map(|(name, kind)| Column { name: name.into(), kind: kind.trim().into(), key: key_of(name) })
        .collect();
    Table { name, columns, statement: statement.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(ttl: Option<Duration>) -> Options<'static> {
        Options { keyspace: "race", replication: 3, datacenter: None, ttl }
    }

    #[test]
    fn the_file_holds_the_tables_of_the_design_with_their_keys() {
        let keys: Vec<_> = tables()
            .iter()
            .map(|table| {
                let key = |wanted: fn(&Key) -> bool| {
                    let columns = table.key().into_iter().filter(|column| wanted(&column.key));
                    columns.map(|column| column.name.as_str()).collect::<Vec<_>>().join(" ")
                };
                let partition = key(|key| matches!(key, Key::Partition(_)));
                format!("{}: {partition} / {}", table.name, key(|key| matches!(key, Key::Clustering(_))))
            })
            .collect();
        assert_eq!(
            keys,
            [
                "chunks: car device bucket / channel t0 writer seq",
                "samples: car channel bucket / t device boot d v",
                "extents: car day / layout device channel bucket",
                "channels: car / device channel since",
                "clocks: car / device boot from_us",
                "events: car day / t device boot sequence",
                "sessions: car / start",
                "agents: car / agent",
            ]
        );
        assert_eq!(table("chunks").columns.len(), 19);
        let kinds = ["text", "bigint", "int", "tinyint", "double", "blob", "timestamp", "boolean"];
        for column in tables().iter().flat_map(|table| &table.columns) {
            assert!(kinds.contains(&column.kind.as_str()), "{column:?}");
        }
    }

    #[test]
    fn a_filled_statement_has_no_placeholder_left_and_hints_outlive_three_hours() {
        for ttl in [None, Some(Duration::from_secs(90 * 86_400))] {
            let script = options(ttl).script();
            assert!(!script.contains("${") && !script.contains("--!"), "{script}");
            assert_eq!(script.matches("gc_grace_seconds = 10800").count(), tables().len());
            assert_eq!(script.matches(&format!("comment = 'Pitwire, version {VERSION}'")).count(), tables().len());
        }
        let keyspace = options(None).create_keyspace();
        assert!(keyspace.contains("race WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}"));
        let named = Options { datacenter: Some("pits"), ..options(None) }.create_keyspace();
        assert!(named.contains("{'class': 'NetworkTopologyStrategy', 'pits': 3}"), "{named}");
    }

    #[test]
    fn a_tables_comment_names_its_version() {
        let read = ["Pitwire, version 12", "", "my notes", "Pitwire, version x"].map(version_in);
        assert_eq!(read, [Some(12), None, None, None]);
    }

    #[test]
    fn a_ttl_is_divided_into_windows_and_extents_outlive_their_chunks() {
        let day = 86_400;
        let windows = [0, 60, day, 2 * day, 24 * day, 25 * day, 365 * day].map(window);
        assert_eq!(
            windows,
            [("DAYS", 1), ("HOURS", 1), ("HOURS", 1), ("HOURS", 2), ("HOURS", 24), ("DAYS", 2), ("DAYS", 16)]
        );
        let options = options(Some(Duration::from_secs(day)));
        let ttls: Vec<_> = tables().iter().map(|table| options.ttl_s(table)).collect();
        assert_eq!(ttls, [day, day, 2 * day, 0, 0, day, 0, 0]);
        assert!(options.create_table(table("extents")).contains("default_time_to_live = 172800"));
    }

    #[test]
    fn every_kind_of_difference_is_named_and_a_further_column_is_none() {
        let table = table("sessions");
        assert_eq!(table.differences(&table.columns), Vec::<String>::new());
        assert_eq!(table.differences(&[]), ["table sessions is missing"]);
        let mut found = table.columns.clone();
        found.push(Column { name: "note".into(), kind: "text".into(), key: Key::None });
        assert_eq!(table.differences(&found), Vec::<String>::new());
        found[1].kind = "int".into();
        found[2].key = Key::Clustering(1);
        found[4].key = Key::Clustering(2);
        found.remove(3);
        assert_eq!(
            table.differences(&found),
            [
                "column sessions.start is int, not bigint",
                "column sessions.number has another place in the key",
                "column sessions.name is missing",
                "column sessions.note is in the key and should not be",
            ]
        );
    }

    #[test]
    fn a_long_list_of_differences_is_cut_short() {
        let many: Vec<_> = (0..6).map(|i| format!("d{i}")).collect();
        assert_eq!(describe(&many), "d0, d1, d2, d3 and 2 more");
        assert_eq!(describe(&many[..2]), "d0, d1");
    }
}
