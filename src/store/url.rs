//! Where a store is: `sqlite:///path` or `cassandra://host:port[,host:port]/keyspace`.
//!
//! Deliberately absent: user and password. They come from a file, a credential or the environment, so
//! that a URL may stand in logs, in process lists and on the pit wall.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Cassandra's own port.
const CASSANDRA_PORT: u16 = 9042;
/// Contact points of one URL: the driver finds the other nodes by itself.
const NODES_MAX: usize = 16;
/// Cassandra's bound for a keyspace's name.
const KEYSPACE_CHARS_MAX: usize = 48;

const FORMS: &str = "write sqlite:///path or cassandra://host:port[,host:port]/keyspace";

/// A store's address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum StoreUrl {
    /// The embedded store.
    Sqlite {
        /// The file, an absolute path, taken as it is written (`%` has no meaning).
        path: PathBuf,
    },
    /// A cluster.
    Cassandra {
        /// Where to ask first.
        nodes: Vec<Node>,
        /// The namespace.
        keyspace: String,
    },
}

/// A contact point.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Node {
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    /// The port of CQL's native protocol.
    pub port: u16,
}

/// Why a text is not a [`StoreUrl`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreUrlError(String);

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite { path } => write!(f, "sqlite://{}", path.display()),
            Self::Cassandra { nodes, keyspace } => {
                let nodes: Vec<_> = nodes.iter().map(Node::to_string).collect();
                write!(f, "cassandra://{}/{keyspace}", nodes.join(","))
            }
        }
    }
}

impl From<StoreUrl> for String {
    fn from(url: StoreUrl) -> Self {
        url.to_string()
    }
}

impl TryFrom<String> for StoreUrl {
    type Error = StoreUrlError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |why: String| Err(StoreUrlError(format!("store url \"{text}\": {why}")));
        if let Some(path) = text.strip_prefix("sqlite://") {
            return match path {
                "" | "/" => refuse(format!("names no file; {FORMS}")),
                _ if path.ends_with('/') => refuse("names a directory; name a file in it".into()),
                _ if path.contains('\0') => refuse("a path holds no NUL".into()),
                _ if path.starts_with('/') => Ok(Self::Sqlite { path: path.into() }),
                _ => refuse(format!("the path is not absolute; write sqlite:///{path} with three slashes")),
            };
        }
        let Some(rest) = text.strip_prefix("cassandra://") else {
            let scheme = text.split_once("://").map_or("no scheme", |(scheme, _)| scheme);
            // What stands before an @ may be a password: only the scheme is repeated.
            return Err(StoreUrlError(format!("store url with {scheme}: not a store that is known; {FORMS}")));
        };
        if rest.contains('@') {
            return Err(StoreUrlError(
                "store url: a user or password does not belong into it; set `user` and `password_file` in [store], \
                 or PITWIRE_STORE_USER and PITWIRE_STORE_PASSWORD_FILE in the environment"
                    .into(),
            ));
        }
        let Some((nodes, keyspace)) = rest.split_once('/') else {
            return refuse(format!("names no keyspace; {FORMS}"));
        };
        if let Err(why) = check_keyspace(keyspace) {
            return refuse(why);
        }
        let nodes: Result<Vec<_>, _> = nodes.split(',').map(parse_node).collect();
        match nodes {
            Ok(nodes) if nodes.len() > NODES_MAX => {
                refuse(format!("names {} nodes; {NODES_MAX} are enough, the others are found", nodes.len()))
            }
            Ok(nodes) => Ok(Self::Cassandra { nodes, keyspace: keyspace.into() }),
            Err(why) => refuse(why),
        }
    }
}

/// Names that need no quotes in CQL: they stand in statements as they are.
fn check_keyspace(name: &str) -> Result<(), String> {
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase());
    let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if starts && plain && name.len() <= KEYSPACE_CHARS_MAX {
        return Ok(());
    }
    Err(format!(
        "keyspace \"{name}\" is not a name; use a lower-case letter, then lower-case letters, digits and _, \
         at most {KEYSPACE_CHARS_MAX} in all"
    ))
}

fn parse_node(text: &str) -> Result<Node, String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(|| format!("\"{text}\" lacks its ]"))?;
            let address = host.parse::<std::net::Ipv6Addr>();
            address.map_err(|_| format!("\"{host}\" is not an IPv6 address"))?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':').unwrap_or(port)) })
        }
        None if text.matches(':').count() > 1 => {
            return Err(format!("put the IPv6 address \"{text}\" in brackets, as in [::1]:{CASSANDRA_PORT}"));
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() || !host.chars().all(named) {
        return Err(format!("\"{host}\" is not a host; name one, as in 127.0.0.1:{CASSANDRA_PORT}"));
    }
    let port = match port {
        None => CASSANDRA_PORT,
        Some(port) => match port.parse() {
            Ok(number) if number > 0 => number,
            _ => return Err(format!("port \"{port}\" is not a number from 1 to 65535")),
        },
    };
    Ok(Node { host: host.into(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_come_back_as_they_were_written() {
        for text in [
            "sqlite:///var/lib/pitwire/pitwire.db",
            "sqlite:///tmp/a b%20c?d.db",
            "cassandra://127.0.0.1:9042/pitwire",
            "cassandra://a.example:9042,b-2:19042,[2001:db8::1]:9142/race_44",
        ] {
            let url: StoreUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), text);
            assert_eq!(StoreUrl::try_from(String::from(url.clone())).unwrap(), url);
        }
    }

    #[test]
    fn a_port_left_out_is_cassandras_own() {
        let url: StoreUrl = "cassandra://db,[::1]/p".parse().unwrap();
        assert_eq!(url.to_string(), "cassandra://db:9042,[::1]:9042/p");
    }

    #[test]
    fn each_fault_is_named_with_what_would_be_right() {
        for (text, part) in [
            ("", "no scheme"),
            ("/var/lib/x.db", "write sqlite:///path"),
            ("postgres://h/db", "with postgres: not a store"),
            ("sqlite://", "names no file"),
            ("sqlite://data.db", "write sqlite:///data.db with three slashes"),
            ("sqlite:///tmp/", "names a directory"),
            ("cassandra://h:9042", "names no keyspace"),
            ("cassandra://h:9042/", "keyspace \"\" is not a name"),
            ("cassandra://h:9042/Race", "keyspace \"Race\" is not a name"),
            ("cassandra://h:9042/a/b", "keyspace \"a/b\" is not a name"),
            ("cassandra://h:9042/p?x=1", "keyspace \"p?x=1\" is not a name"),
            ("cassandra:///p", "\"\" is not a host"),
            ("cassandra://h:1,,i:2/p", "\"\" is not a host"),
            ("cassandra://h:0/p", "port \"0\" is not a number from 1 to 65535"),
            ("cassandra://h:70000/p", "port \"70000\" is not"),
            ("cassandra://::1:9042/p", "in brackets"),
            ("cassandra://[::1:9042/p", "lacks its ]"),
            ("cassandra://[h]:9042/p", "\"h\" is not an IPv6 address"),
            ("cassandra://h i:9042/p", "\"h i\" is not a host"),
        ] {
            let error = text.parse::<StoreUrl>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        let long = format!("cassandra://h/{}", "k".repeat(49));
        assert!(long.parse::<StoreUrl>().is_err());
        let many = format!("cassandra://{}/k", vec!["h"; 17].join(","));
        assert!(many.parse::<StoreUrl>().unwrap_err().to_string().contains("17 nodes"));
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_repeated() {
        for text in ["cassandra://me:secret@h:9042/p", "mysql://me:secret@h/p"] {
            let error = text.parse::<StoreUrl>().unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        let error = "cassandra://me:secret@h/p".parse::<StoreUrl>().unwrap_err().to_string();
        assert!(error.contains("password_file"), "{error}");
    }
}
