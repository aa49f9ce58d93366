//! The keyspace and its tables: comparing them with what this version needs, and making what is absent.

use std::collections::HashMap;
use std::time::Duration;

use scylla::deserialize::row::DeserializeRow;
use scylla::statement::Statement;

use super::{Cassandra, Class, Failure};
use crate::store::schema::{self, Column, Key, Options, VERSION};
use crate::store::{StoreError, StoreUrl};

/// A change of the schema waits until all nodes agree.
const DDL_TIMEOUT: Duration = Duration::from_secs(30);
/// A change may be applied although an error came back: look again, this often and this long apart.
const ROUNDS_MAX: u32 = 5;
const ROUND_PAUSE: Duration = Duration::from_millis(500);

/// What a keyspace holds, by table.
type Found = HashMap<String, Vec<Column>>;

impl Cassandra {
    fn options(&self) -> Options<'_> {
        Options::new(&self.keyspace, &self.config)
    }

    /// Compares version, keyspace, tables, columns and keys.
    pub(super) async fn check_schema(&self) -> Result<(), StoreError> {
        self.check_version().await?;
        let differences = match self.differences().await {
            Ok((differences, _)) => differences,
            Err(failure) => return Err(self.unread(failure)),
        };
        if differences.is_empty() {
            return Ok(());
        }
        // What is made anew holds nothing: an extent that was written before is not there any more.
        self.forget();
        let (keyspace, differences) = (&self.keyspace, schema::describe(&differences));
        Err(StoreError::Hold {
            reason: format!("keyspace {keyspace} at {} is not as this version needs it: {differences}", self.target),
            remedy: format!("run `pitwire schema apply --store {}`", self.url()),
        })
    }

    /// What a later version made may mean something else, though it looks the same.
    async fn check_version(&self) -> Result<(), StoreError> {
        let tables: Vec<(String, Option<String>)> =
            self.describe("table_name, comment", "tables").await.map_err(|failure| self.unread(failure))?;
        let version = |(_, comment): &(String, Option<String>)| schema::version_in(comment.as_deref()?);
        let Some(found) = tables.iter().filter_map(version).max().filter(|found| *found > VERSION) else {
            return Ok(());
        };
        let (keyspace, target) = (&self.keyspace, &self.target);
        Err(StoreError::Hold {
            reason: format!(
                "keyspace {keyspace} at {target} has tables of version {found}, this program knows {VERSION}"
            ),
            remedy: "use the version of Pitwire that made them, or a newer one; nothing was changed".into(),
        })
    }

    /// Makes what is absent. Several agents may do so at once.
    pub(super) async fn make_schema(&self) -> Result<(), StoreError> {
        self.check_version().await?;
        let mut round = 0;
        loop {
            let (_, found) = self.differences().await.map_err(|failure| self.unread(failure))?;
            let made = self.make_absent(found.as_ref()).await;
            self.forget();
            // What counts is what is there now, whatever was said while making it.
            let checked = self.check_schema().await;
            let Err(failure) = made else {
                if checked.is_ok() {
                    self.compare_ttl().await;
                }
                return checked;
            };
            round += 1;
            match (checked, failure.class) {
                (Ok(()), _) => return Ok(()),
                (Err(_), Class::Hold(remedy)) => {
                    let reason = format!("change the schema at {}: {}", self.target, failure.reason);
                    return Err(StoreError::Hold { reason, remedy: remedy.into() });
                }
                (Err(_), _) if round == ROUNDS_MAX => {
                    let what = format!("change the schema at {}", self.target);
                    return Err(StoreError::Unavailable { what, reason: failure.reason });
                }
                (Err(_), _) => tokio::time::sleep(ROUND_PAUSE * round).await,
            }
        }
    }

    async fn make_absent(&self, found: Option<&Found>) -> Result<(), Failure> {
        let options = self.options();
        if found.is_none() {
            self.change(options.create_keyspace()).await?;
        }
        for table in schema::tables() {
            if found.is_none_or(|found| !found.contains_key(&table.name)) {
                self.change(options.create_table(table)).await?;
            }
        }
        Ok(())
    }

    async fn change(&self, text: String) -> Result<(), Failure> {
        let mut statement = Statement::new(text);
        statement.set_request_timeout(Some(DDL_TIMEOUT));
        statement.set_is_idempotent(true);
        self.session.query_unpaged(statement, ()).await?;
        Ok(())
    }

    /// Differences in words, and what there is; none if there is no keyspace.
    async fn differences(&self) -> Result<(Vec<String>, Option<Found>), Failure> {
        let keyspaces: Vec<(String,)> = self.describe("keyspace_name", "keyspaces").await?;
        if keyspaces.is_empty() {
            return Ok((vec!["the keyspace is missing".into()], None));
        }
        let columns: Vec<(String, String, String, String, i32)> =
            self.describe("table_name, column_name, type, kind, position", "columns").await?;
        let mut found = Found::new();
        for (table, name, kind, role, position) in columns {
            let place = usize::try_from(position).unwrap_or_default();
            let key = match role.as_str() {
                "partition_key" => Key::Partition(place),
                "clustering" => Key::Clustering(place),
                _ => Key::None,
            };
            found.entry(table).or_default().push(Column { name, kind, key });
        }
        let none = Vec::new();
        let differences = schema::tables()
            .iter()
            .flat_map(|table| table.differences(found.get(&table.name).unwrap_or(&none)))
            .collect();
        Ok((differences, Some(found)))
    }

    /// A lifetime that was changed in the configuration after the tables were made does nothing: say so.
    async fn compare_ttl(&self) {
        let options = self.options();
        let Ok(tables) = self.describe::<(String, i32)>("table_name, default_time_to_live", "tables").await else {
            return;
        };
        for table in schema::tables() {
            let wanted_s = options.ttl_s(table);
            let Some((_, has_s)) = tables.iter().find(|(name, _)| *name == table.name) else { continue };
            if u64::try_from(*has_s) != Ok(wanted_s) {
                tracing::warn!(
                    table = table.name,
                    has_s,
                    wanted_s,
                    "rows live as long as the table says, not as store.ttl says: ALTER TABLE {}.{} WITH \
                     default_time_to_live = {wanted_s}",
                    self.keyspace,
                    table.name,
                );
            }
        }
    }

    /// What the server says of our keyspace.
    async fn describe<R>(&self, columns: &str, table: &str) -> Result<Vec<R>, Failure>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        let text = format!("SELECT {columns} FROM system_schema.{table} WHERE keyspace_name = '{}'", self.keyspace);
        let rows = self.session.query_unpaged(text, ()).await?.into_rows_result().map_err(Failure::unreadable)?;
        let rows: Result<Vec<R>, _> = rows.rows::<R>().map_err(Failure::unreadable)?.collect();
        rows.map_err(Failure::unreadable)
    }

    /// The schema could not be read: that is no statement about it.
    fn unread(&self, Failure { class, reason }: Failure) -> StoreError {
        let what = format!("read the schema from {}", self.target);
        match class {
            Class::Hold(remedy) => StoreError::Hold { reason: format!("{what}: {reason}"), remedy: remedy.into() },
            _ => StoreError::Unavailable { what, reason },
        }
    }

    fn url(&self) -> &StoreUrl {
        &self.config.url
    }
}
