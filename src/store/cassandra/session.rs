//! The driver's session, set up for a link that comes and goes.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use scylla::client::PoolSize;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::policies::speculative_execution::SimpleSpeculativeExecutionPolicy;
use scylla::statement::Consistency;

use super::classify::{self, Class};
use crate::store::{Compression, Config, Node, StoreError};

/// One connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection that is silent for so long is asked whether it lives, and given up after the timeout.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// A node that has not answered by then may hang, which its connections show only after the times above: another one is
/// asked beside it, once. Twice what a healthy link with a round trip of 300 ms takes. Where there is one node alone, nothing
/// is asked twice.
const ASK_ANOTHER_AFTER: Duration = Duration::from_millis(600);
/// The whole attempt: two nodes that accept and then say nothing (5 + 3 s each), and one that answers.
const SESSION_TIMEOUT: Duration = Duration::from_secs(20);
/// The driver's own queries.
const METADATA_TIMEOUT: Duration = Duration::from_secs(4);
/// How often the nodes are asked whether they agree, after a change of the schema.
const SCHEMA_AGREEMENT_INTERVAL: Duration = Duration::from_millis(50);
/// Cassandra counts as one shard; what is in flight is bounded far below what one connection carries.
const CONNECTIONS_PER_HOST: NonZeroUsize = NonZeroUsize::new(2).expect("2 is not 0");

/// Asks `nodes` once.
pub(super) async fn open(nodes: &[Node], keyspace: &str, config: &Config, target: &str) -> Result<Session, StoreError> {
    let mut balancing = DefaultPolicy::builder().token_aware(true);
    if let Some(name) = &config.datacenter {
        balancing = balancing.prefer_datacenter(name.clone());
    }
    let profile = ExecutionProfile::builder()
        .consistency(Consistency::LocalQuorum)
        .request_timeout(Some(config.request_timeout))
        .load_balancing_policy(balancing.build())
        .speculative_execution_policy(Some(Arc::new(SimpleSpeculativeExecutionPolicy {
            max_retry_count: 1,
            retry_interval: ASK_ANOTHER_AFTER,
        })))
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(nodes.iter().map(Node::to_string))
        .default_execution_profile_handle(profile.into_handle())
        .connection_timeout(CONNECT_TIMEOUT)
        .hostname_resolution_timeout(Some(CONNECT_TIMEOUT))
        .metadata_request_serverside_timeout(METADATA_TIMEOUT)
        .keepalive_interval(KEEPALIVE_INTERVAL)
        .keepalive_timeout(KEEPALIVE_TIMEOUT)
        .pool_size(PoolSize::PerHost(CONNECTIONS_PER_HOST))
        // For routing the driver needs our keyspace's replication, not every table of the cluster.
        .keyspaces_to_fetch([keyspace])
        .fetch_full_schema_metadata(false)
        .schema_agreement_interval(SCHEMA_AGREEMENT_INTERVAL)
        .compression(match config.compression {
            Compression::None => None,
            Compression::Lz4 => Some(scylla::frame::Compression::Lz4),
        })
        .driver_config_reporting(false);
    if let Some(login) = config.login()? {
        builder = builder.user(login.user, login.password);
    }
    let what = format!("connect to {target}");
    let session = match tokio::time::timeout(SESSION_TIMEOUT, builder.build()).await {
        Ok(Ok(session)) => session,
        Ok(Err(error)) => {
            let reason = error.to_string();
            return Err(match classify::new_session(&error) {
                Class::Hold(remedy) => StoreError::Hold { reason: format!("{what}: {reason}"), remedy: remedy.into() },
                _ => unreachable_nodes(what, &reason),
            });
        }
        Err(_) => {
            return Err(unreachable_nodes(what, &format!("no answer within {} s", SESSION_TIMEOUT.as_secs())));
        }
    };
    check_datacenter(&session, config, &what)?;
    Ok(session)
}

fn unreachable_nodes(what: String, reason: &str) -> StoreError {
    StoreError::Unavailable {
        what,
        reason: format!("{reason}; check that the nodes run, the way to them, and store.url"),
    }
}

/// A data centre that is not there would leave every request without a node to go to.
fn check_datacenter(session: &Session, config: &Config, what: &str) -> Result<(), StoreError> {
    let Some(wanted) = &config.datacenter else { return Ok(()) };
    let cluster = session.get_cluster_state();
    let mut names: Vec<_> = cluster.get_nodes_info().iter().filter_map(|node| node.datacenter.as_deref()).collect();
    names.sort_unstable();
    names.dedup();
    if names.contains(&wanted.as_str()) {
        return Ok(());
    }
    Err(StoreError::Hold {
        reason: format!("{what}: no node is in the data centre {wanted}; there are: {}", names.join(", ")),
        remedy: "correct store.datacenter".into(),
    })
}
