//! `pitwire schema print|apply`

use clap::Subcommand;

use super::{Failure, Outcome, print, say, store_config};
use crate::store;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Print the statements that `apply` would execute on an empty store.
    Print(Target),
    /// Create what is absent and check the rest; nothing is ever dropped.
    Apply(Target),
}

#[derive(clap::Args)]
struct Target {
    /// cassandra://host:port[,host:port]/keyspace or sqlite:///path
    #[arg(long)]
    store: String,
    /// Copies of each row (Cassandra, when the keyspace is created).
    #[arg(long, default_value_t = 1)]
    replication: u32,
    /// The data centre that keeps the copies (Cassandra).
    #[arg(long)]
    datacenter: Option<String>,
    /// How long samples are kept, e.g. 30days; for ever if absent.
    #[arg(long, value_parser = humantime::parse_duration)]
    ttl: Option<std::time::Duration>,
    /// Who logs in (Cassandra); the password comes from PITWIRE_STORE_PASSWORD_FILE.
    #[arg(long)]
    user: Option<String>,
}

impl Target {
    fn config(self) -> Result<store::Config, Failure> {
        let Self { store, replication, datacenter, ttl, user } = self;
        let config = store::Config { replication, datacenter, ttl, user, ..store_config(&store)? };
        config.validate().map_err(Failure::usage)?;
        Ok(config)
    }
}

pub(super) async fn run(arguments: Arguments) -> Outcome {
    match arguments.action {
        Action::Print(target) => print(store::schema_script(&target.config()?).trim_end()),
        Action::Apply(target) => {
            let config = target.config()?;
            let store = store::connect(&config).await.map_err(Failure::failed)?;
            store.apply_schema().await.map_err(Failure::failed)?;
            say(&format!("{}: schema is as this version needs it", config.url));
            Ok(())
        }
    }
}
