//! What was built, before anything runs: nodes, the queues between them, and how far sources may run ahead.

use std::fmt::{self, Write as _};

use serde::Serialize;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// Somebody who sends items in.
    External,
    /// A source that is pulled.
    Source,
    /// A stage of operations in the workers' tasks.
    Stage,
    /// A stage of operations on a pool.
    Cpu,
    /// A stage with a state of its own, one item at a time.
    Serial,
    /// A stage that makes batches.
    Aggregate,
    /// Somebody who takes what comes out.
    Outlet,
}

/// In which order a stage gives its results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// As they are completed.
    Completion,
    /// As their items came: a slow one holds back those behind it, within the stage's concurrency.
    Input,
    /// As their items came, among those of one key; others pass.
    Key,
}

impl Order {
    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completion => "order of completion",
            Self::Input => "order of input",
            Self::Key => "order per key",
        }
    }
}

/// A pool of threads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PoolNode {
    /// Its name.
    pub name: String,
    /// Its threads.
    pub threads: usize,
    /// Operations that it holds, running or waiting.
    pub holds: usize,
    /// Operations that its stages schedule at most.
    pub scheduled: usize,
}

/// A source, a stage, or who takes what comes out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: NodeKind,
    /// Operations in progress at most; 1 for what does one thing at a time.
    pub concurrency: usize,
    /// In which order it gives, where that is a choice.
    pub order: Option<Order>,
    /// What it does on failure.
    pub on_failure: Option<String>,
    /// The pool that it works on.
    pub pool: Option<String>,
    /// Items in all, for a source that knows.
    pub total: Option<u64>,
    /// What whoever built it had to say.
    pub notes: Vec<String>,
}

/// A queue with those who fill it and the one who takes from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Edge {
    /// The queue's name.
    pub queue: String,
    /// Who fills it.
    pub from: Vec<String>,
    /// Who takes from it.
    pub to: Option<String>,
    /// Items it may hold.
    pub items_max: usize,
    /// Bytes it may hold.
    pub bytes_max: usize,
}

/// A pipeline as it was built.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Graph {
    /// Its name.
    pub name: String,
    /// Sources, stages and outlets, in the order of the way.
    pub nodes: Vec<Node>,
    /// Queues, in the order of the way.
    pub edges: Vec<Edge>,
    /// Pools of threads.
    pub pools: Vec<PoolNode>,
}

impl Graph {
    fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// For a terminal.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("pipeline {:?}\n", self.name);
        for edge in &self.edges {
            for node in edge.from.iter().filter_map(|name| self.node(name)) {
                // A stage was written as the end of the edge before it.
                if matches!(node.kind, NodeKind::External | NodeKind::Source) {
                    text_of(node, &mut text);
                }
            }
            let bytes = bytes(edge.bytes_max);
            let _ = writeln!(text, "   │  queue {:?}: at most {} items, {bytes}", edge.queue, edge.items_max);
            match edge.to.as_deref().and_then(|name| self.node(name)) {
                Some(node) => text_of(node, &mut text),
                None => text.push_str("  nobody\n"),
            }
        }
        for pool in &self.pools {
            let PoolNode { name, threads, holds, scheduled } = pool;
            let _ = writeln!(text, "pool {name:?}: {threads} threads, holds {holds} operations, {scheduled} scheduled");
        }
        text
    }

    /// As a Mermaid flowchart.
    #[must_use]
    pub fn to_mermaid(&self) -> String {
        let mut text = String::from("flowchart LR\n");
        let id = |name: &str| self.nodes.iter().position(|node| node.name == name).unwrap_or(usize::MAX);
        for (id, node) in self.nodes.iter().enumerate() {
            let (open, close) = match node.kind {
                NodeKind::External | NodeKind::Outlet => ("([", "])"),
                NodeKind::Source => ("[/", "/]"),
                NodeKind::Stage | NodeKind::Cpu | NodeKind::Serial | NodeKind::Aggregate => ("[", "]"),
            };
            let lines: Vec<String> =
                [vec![node.name.clone()], node.facts(), node.notes.clone()].concat().iter().map(|l| plain(l)).collect();
            let _ = writeln!(text, "    n{id}{open}\"{}\"{close}", lines.join("<br/>"));
        }
        for edge in &self.edges {
            let Some(to) = &edge.to else { continue };
            let label = plain(&format!("{}: {} items, {}", edge.queue, edge.items_max, bytes(edge.bytes_max)));
            for from in &edge.from {
                let _ = writeln!(text, "    n{} -->|\"{label}\"| n{}", id(from), id(to));
            }
        }
        text
    }
}

impl Node {
    fn facts(&self) -> Vec<String> {
        let mut facts = Vec::new();
        match self.kind {
            NodeKind::Stage | NodeKind::Cpu => facts.push(format!("{} at once", self.concurrency)),
            NodeKind::Serial => facts.push("one at a time".into()),
            NodeKind::External | NodeKind::Source | NodeKind::Aggregate | NodeKind::Outlet => {}
        }
        facts.extend(self.order.filter(|_| self.concurrency > 1).map(|order| order.as_str().to_owned()));
        facts.extend(self.pool.as_ref().map(|pool| format!("on pool {pool:?}")));
        facts.extend(self.on_failure.as_ref().map(|policy| format!("on failure {policy}")));
        facts.extend(self.total.map(|total| format!("{total} items")));
        facts
    }
}

fn text_of(node: &Node, text: &mut String) {
    let kind = match node.kind {
        NodeKind::External => "from",
        NodeKind::Source => "source",
        NodeKind::Stage | NodeKind::Cpu | NodeKind::Serial => "stage",
        NodeKind::Aggregate => "aggregate",
        NodeKind::Outlet => "outlet, taken by",
    };
    let facts = node.facts();
    let colon = if facts.is_empty() { "" } else { ": " };
    let _ = writeln!(text, "  {kind} {:?}{colon}{}", node.name, facts.join(", "));
    for note in &node.notes {
        let _ = writeln!(text, "     - {note}");
    }
}

/// Without what a Mermaid label may not hold.
fn plain(text: &str) -> String {
    text.replace('"', "'").replace(['\n', '\r'], " ").replace('<', "&lt;").replace('>', "&gt;")
}

fn bytes(bytes: usize) -> String {
    match bytes {
        usize::MAX => "any number of bytes".into(),
        _ if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
    }
}

/// One step of the way, as far as it holds items back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Items that sources have in hand while they wait for room.
    InHand(usize),
    /// A queue.
    Queue { items: usize, bytes: usize },
    /// Operations in progress.
    Operations(usize),
    /// A batch in the making; from here on each item stands for as many.
    Batch(Option<usize>),
    /// A stage that may hold anything.
    Anything,
}

/// How many items the sources may have given at most when whoever takes the results takes no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunAhead {
    /// The sum; `None` if a stage with a state of its own, or a batch without a bound in items, may hold any number.
    pub items: Option<u64>,
    /// What it is the sum of.
    pub terms: Vec<(String, Option<u64>)>,
}

impl RunAhead {
    /// Sums up the way; every item in it weighs `item_bytes` at least.
    pub(crate) fn of(way: &[(String, Hold)], item_bytes: usize) -> Self {
        let mut each = Some(1_u64);
        let mut terms = Vec::new();
        for (name, hold) in way {
            let held = match *hold {
                Hold::InHand(items) | Hold::Operations(items) | Hold::Batch(Some(items)) => Some(items),
                // One item goes in however large it is.
                Hold::Queue { items, bytes } => {
                    Some(bytes.checked_div(item_bytes).map_or(items, |fit| items.min(fit.max(1))))
                }
                Hold::Batch(None) | Hold::Anything => None,
            };
            let term = each.zip(held).map(|(each, held)| each.saturating_mul(held as u64));
            if let Hold::Batch(_) | Hold::Anything = hold {
                each = term;
            }
            terms.push((name.clone(), term));
        }
        let items = terms.iter().map(|(_, term)| *term).sum();
        Self { items, terms }
    }
}

impl fmt::Display for RunAhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |n: Option<u64>| n.map_or_else(|| "any number".to_owned(), |n| n.to_string());
        let terms: Vec<String> = self.terms.iter().map(|(name, term)| format!("{} in {name}", number(*term))).collect();
        write!(f, "{} = {}", number(self.items), terms.join(" + "))
    }
}
