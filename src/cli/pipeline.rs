//! `pitwire pipeline`: the way of the data, as a configuration describes it.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{Args, Subcommand, ValueEnum};

use super::{Failure, Outcome, print};
use crate::app::explain;
use crate::config::{Config, DEFAULT_PATH};
use crate::pipeline::Graph;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the pipeline that a configuration describes: sources, stages, steps, and each queue with its bounds.
    /// Nothing is opened or started.
    #[command(after_help = "\
Examples:
  pitwire pipeline explain --config pitwire.toml
  pitwire pipeline explain --config pitwire.toml --format mermaid > way.mmd

The last line is a promise: the queues never hold more than that, however long delivery takes nothing. The sources
are held back then; what the stages themselves gather has bounds of its own (docs/architecture.md).
How the stages do while the agent runs, and which one limits, is on its page and in `pipeline` of /api/v1/status.")]
    Explain {
        /// The configuration.
        #[arg(long, default_value = DEFAULT_PATH)]
        config: PathBuf,
        /// As what.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// Lines for people.
    Text,
    /// A Mermaid flowchart, as Markdown viewers draw it.
    Mermaid,
    /// The graph as JSON.
    Json,
}

pub(super) fn run(arguments: Arguments) -> Outcome {
    let Command::Explain { config, format } = arguments.command;
    let config = Config::load(&config).map_err(Failure::usage)?;
    let graph = explain(&config).map_err(Failure::usage)?;
    let text = match format {
        Format::Text => format!("{}\n{}", graph.to_text(), held(&graph)),
        Format::Mermaid => graph.to_mermaid(),
        Format::Json => serde_json::to_string(&graph).map_err(Failure::failed)?,
    };
    print(text.trim_end())
}

/// What all queues hold at most.
fn held(graph: &Graph) -> String {
    let items: usize = graph.edges.iter().map(|edge| edge.items_max).sum();
    let bytes: usize = graph.edges.iter().map(|edge| edge.bytes_max).sum();
    format!("the queues hold at most {items} items and {}", ByteSize::b(bytes as u64))
}
