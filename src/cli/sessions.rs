//! `pitwire sessions`

use super::{Failure, Outcome, print, store_config};
use crate::export::{Session, sessions, time_text};
use crate::store;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pitwire sessions --store cassandra://127.0.0.1:9042/pitwire --car 44
  pitwire export --store cassandra://127.0.0.1:9042/pitwire --car 44 --session race --lap 12 --format parquet -o lap12.parquet")]
pub(super) struct Arguments {
    /// cassandra://host:port[,host:port]/keyspace or sqlite:///path
    #[arg(long)]
    store: String,
    /// Which car.
    #[arg(long)]
    car: String,
    /// One JSON line for each session, with its laps.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(Arguments { store, car, json }: Arguments) -> Outcome {
    let store = store::connect_to_read(&store_config(&store)?).await.map_err(Failure::failed)?;
    let found = sessions(&*store, &car).await.map_err(Failure::failed)?;
    if found.is_empty() {
        return Err(Failure::failed(format!("the store knows no session and no lap of car {car}")));
    }
    for session in found {
        if json {
            print(&serde_json::to_string(&session).map_err(Failure::failed)?)?;
        } else {
            lines(&session).iter().try_for_each(|line| print(line))?;
        }
    }
    Ok(())
}

fn lines(session: &Session) -> Vec<String> {
    let head = match (session.number, session.from_us) {
        (Some(number), Some(from)) => format!("session {number} {} {}", session.name, time_text(from)),
        _ => "before any session".into(),
    };
    let mut lines = vec![head];
    lines.extend(session.laps.iter().map(|lap| {
        let took = lap.to_us.map(|to| format!(", {:.3} s", (to - lap.from_us) as f64 / 1e6)).unwrap_or_default();
        format!("  lap {} {} by {}{took}", lap.number, time_text(lap.from_us), lap.device)
    }));
    lines
}
