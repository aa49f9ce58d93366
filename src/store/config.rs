//! `[store]`, and where the password comes from.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{StoreError, StoreUrl};

/// Names the file that holds the password.
const PASSWORD_FILE_VARIABLE: &str = "PITWIRE_STORE_PASSWORD_FILE";
/// Names the user, where the configuration does not.
const USER_VARIABLE: &str = "PITWIRE_STORE_USER";
/// systemd's directory of credentials, and the one that is meant (`LoadCredential=store-password:…`).
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";
const CREDENTIAL: &str = "store-password";
/// A password that is longer is a wrong file.
const PASSWORD_BYTES_MAX: u64 = 4_096;

const REQUEST_TIMEOUT_MIN: Duration = Duration::from_millis(100);
const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// Below a minute a bucket would be gone before it is full.
const TTL_MIN: Duration = Duration::from_secs(60);
/// Cassandra's bound: 20 years of 365 days; a day less, for the extents' longer life.
const TTL_MAX: Duration = Duration::from_secs((20 * 365 - 1) * 86_400);
/// More copies than any cluster of cars has nodes in one place.
const REPLICATION_MAX: u32 = 16;

/// `[store]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `sqlite:///path` or `cassandra://host:port[,host:port]/keyspace`.
    pub url: StoreUrl,
    /// Cassandra: who logs in. Without it nobody does.
    pub user: Option<String>,
    /// Cassandra: a file with the password; `PITWIRE_STORE_PASSWORD_FILE` comes before it, systemd's
    /// credential `store-password` after it.
    pub password_file: Option<PathBuf>,
    /// Cassandra, when the keyspace is made: copies of each row.
    pub replication: u32,
    /// Cassandra: the data centre that keeps the copies and is asked.
    pub datacenter: Option<String>,
    /// How long samples and events are kept; for ever if absent. In Cassandra it is set when the tables
    /// are made.
    #[serde(with = "humantime_serde")]
    pub ttl: Option<Duration>,
    /// After this a request counts as failed.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// Cassandra: compression between agent and server.
    pub compression: Compression,
}

/// Compression between agent and server. Chunks are dense already: it helps with many small rows only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// None.
    #[default]
    None,
    /// LZ4: fast.
    Lz4,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: StoreUrl::Sqlite { path: "/var/lib/pitwire/pitwire.db".into() },
            user: None,
            password_file: None,
            replication: 1,
            datacenter: None,
            ttl: None,
            request_timeout: Duration::from_secs(2),
            compression: Compression::None,
        }
    }
}

impl Config {
    /// The defaults for `url`.
    #[must_use]
    pub fn for_url(url: StoreUrl) -> Self {
        Self { url, ..Self::default() }
    }

    /// Whether the values make sense together.
    ///
    /// # Errors
    /// Key, value and what would be right.
    pub fn validate(&self) -> Result<(), String> {
        let within = |name: &str, value: Duration, min: Duration, max: Duration| {
            if (min..=max).contains(&value) {
                return Ok(());
            }
            let [value, min, max] = [value, min, max].map(humantime::format_duration);
            Err(format!("store.{name} = \"{value}\": use a value from {min} to {max}"))
        };
        within("request_timeout", self.request_timeout, REQUEST_TIMEOUT_MIN, REQUEST_TIMEOUT_MAX)?;
        if let Some(ttl) = self.ttl {
            within("ttl", ttl, TTL_MIN, TTL_MAX)?;
        }
        if !(1..=REPLICATION_MAX).contains(&self.replication) {
            return Err(format!("store.replication = {}: use 1 to {REPLICATION_MAX}", self.replication));
        }
        if let Some(name) = &self.datacenter {
            // It stands between quotes in a statement.
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            if name.is_empty() || !name.chars().all(plain) {
                return Err(format!("store.datacenter = \"{name}\": use letters, digits, _, - and ."));
            }
        }
        if self.user.as_deref() == Some("") {
            return Err("store.user = \"\": name the user, or leave the key out".into());
        }
        Ok(())
    }

    /// User and password, if Cassandra is to be logged into.
    ///
    /// # Errors
    /// [`StoreError::Hold`] if one is there without the other or the file cannot be read.
    pub(super) fn login(&self) -> Result<Option<Login>, StoreError> {
        self.login_from(|name| std::env::var_os(name))
    }

    fn login_from(&self, variable: impl Fn(&str) -> Option<OsString>) -> Result<Option<Login>, StoreError> {
        let hold = |reason: String, remedy: &str| Err(StoreError::Hold { reason, remedy: remedy.into() });
        let user = match (&self.user, variable(USER_VARIABLE)) {
            (Some(user), _) => Some(user.clone()),
            (None, Some(user)) => Some(user.to_string_lossy().into_owned()),
            (None, None) => None,
        };
        let credential = || {
            let path = PathBuf::from(variable(CREDENTIALS_VARIABLE)?).join(CREDENTIAL);
            path.exists().then_some(path)
        };
        let file = variable(PASSWORD_FILE_VARIABLE).map(PathBuf::from);
        let file = file.or_else(|| self.password_file.clone()).or_else(credential);
        match (user, file) {
            (None, None) => Ok(None),
            (Some(user), None) => hold(
                format!("there is no password for the store's user {user}"),
                "set store.password_file, PITWIRE_STORE_PASSWORD_FILE or the credential store-password",
            ),
            (None, Some(file)) => hold(
                format!("{} holds a password of the store, but no user is named", file.display()),
                "set store.user or PITWIRE_STORE_USER",
            ),
            (Some(user), Some(file)) => match read_password(&file) {
                Ok(password) => Ok(Some(Login { user, password })),
                Err(why) => hold(
                    format!("read the store's password from {}: {why}", file.display()),
                    "put the password alone into the file and let the agent read it",
                ),
            },
        }
    }
}

/// A user and a password; never shown.
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: String,
}

/// The file's text without the line's end.
fn read_password(file: &std::path::Path) -> Result<String, String> {
    let length = std::fs::metadata(file).map_err(|error| error.to_string())?.len();
    if length > PASSWORD_BYTES_MAX {
        return Err(format!("{length} bytes are no password"));
    }
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let password = text.trim_end_matches(['\n', '\r']);
    if password.is_empty() {
        return Err("it is empty".into());
    }
    Ok(password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_the_design_are_read_and_unknown_ones_refused() {
        let text = "url = \"cassandra://h:9042/p\"\nttl = \"30days\"\nrequest_timeout = \"1500ms\"\n\
                    compression = \"lz4\"\nuser = \"u\"\npassword_file = \"/p\"\nreplication = 3\ndatacenter = \"d\"\n";
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.ttl, Some(Duration::from_secs(30 * 86_400)));
        assert_eq!(toml::from_str::<Config>(&toml::to_string(&config).unwrap()).unwrap(), config);
        assert_eq!(toml::from_str::<Config>("").unwrap(), Config::default());
        assert!(toml::from_str::<Config>("urls = \"\"").unwrap_err().to_string().contains("line 1"));
        let error = toml::from_str::<Config>("\nurl = \"cassandra://h\"").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("names no keyspace"), "{error}");
    }

    #[test]
    fn values_that_make_no_sense_are_named_with_their_key() {
        let check = |change: fn(&mut Config), part: &str| {
            let mut config = Config::default();
            change(&mut config);
            let error = config.validate().unwrap_err();
            assert!(error.contains(part), "{error}");
        };
        assert_eq!(Config::default().validate(), Ok(()));
        check(|c| c.request_timeout = Duration::ZERO, "store.request_timeout = \"0s\": use a value from 100ms to 1m");
        check(|c| c.ttl = Some(Duration::from_secs(1)), "store.ttl = \"1s\"");
        check(|c| c.ttl = Some(Duration::MAX), "store.ttl");
        check(|c| c.replication = 0, "store.replication = 0: use 1 to 16");
        check(|c| c.datacenter = Some("a'b".into()), "store.datacenter");
        check(|c| c.user = Some(String::new()), "store.user");
    }

    #[test]
    fn a_password_comes_from_the_environment_then_the_file_then_the_credential() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["environment", "file", CREDENTIAL] {
            std::fs::write(path(name), format!("{name}\n")).unwrap();
        }
        let mut config = Config { user: Some("u".into()), ..Config::default() };
        let password = |config: &Config, variables: &[(&str, PathBuf)]| {
            let of = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.clone().into());
            config.login_from(of).map(|login| login.map(|login| login.password))
        };
        let credentials = (CREDENTIALS_VARIABLE, dir.path().to_owned());
        let file = (PASSWORD_FILE_VARIABLE, path("environment"));
        assert_eq!(password(&config, std::slice::from_ref(&credentials)).unwrap().as_deref(), Some(CREDENTIAL));
        config.password_file = Some(path("file"));
        assert_eq!(password(&config, std::slice::from_ref(&credentials)).unwrap().as_deref(), Some("file"));
        assert_eq!(password(&config, &[credentials, file]).unwrap().as_deref(), Some("environment"));
    }

    #[test]
    fn half_a_login_is_refused_with_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("p");
        let error = |config: &Config| config.login_from(|_| None).err().map(|error| error.to_string()).unwrap();
        let user = Config { user: Some("u".into()), ..Config::default() };
        assert!(error(&user).contains("no password for the store's user u"));
        let password = Config { password_file: Some(file.clone()), ..Config::default() };
        assert!(error(&password).contains("no user is named"));
        let both = Config { password_file: Some(file.clone()), ..user };
        assert!(error(&both).contains("No such file"));
        std::fs::write(&file, "\n").unwrap();
        assert!(error(&both).contains("it is empty"));
        assert!(Config::default().login_from(|_| None).unwrap().is_none());
    }
}
