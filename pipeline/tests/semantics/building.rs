//! What a builder refuses, and the graph of what it takes.

use pitwire_pipeline::{Aggregate, Bounds, Builder, OnSourceError, Order, Policy, from_iter};

use super::*;

#[test]
fn all_mistakes_are_told_at_once() {
    let other = Builder::new("other").pool("theirs", 1, 1);
    let mut builder = Builder::new("wrong");
    let small = builder.pool("small", 2, 3);
    let _ = builder.pool("small", 0, 0);
    let (_sender, chain) = builder.push_input("in", "", Bounds { items: 0, bytes: 1, weigh: |_: &u64| 1 });
    let chain = chain.stage("a").concurrency(2).on_failure(Policy::skip()).cpu(small, |n: &mut u64| Ok(*n), items(1));
    let chain = chain.stage("a").concurrency(2).on_failure(Policy::skip()).cpu(small, |n: &mut u64| Ok(*n), items(1));
    let chain = chain.stage("b").concurrency(0).on_failure(Policy::skip()).cpu(other, |n: &mut u64| Ok(*n), items(1));
    let chain = chain.stage("c").order(Order::Key).on_failure(Policy::skip()).run(takes(|_| 0), items(1));
    let _ = chain.aggregate("d", Aggregate::new(), items(1));
    let _ = builder.input::<u64>("nobody", items(1)).chain().outlet("out");
    let error = builder.build().err().unwrap();
    let told = error.to_string();
    for part in [
        "a pool is called \"small\"",
        "pool \"small\" has 0 threads",
        "queue \"in\" is bounded at 0 items and 1 bytes",
        "a sender has no name",
        "pool \"small\" holds 3 operations, and its stages schedule 4: \"a\" 2, \"a\" 2",
        "stage \"a\": the name is taken",
        "stage \"b\" has concurrency 0",
        "stage \"b\" is on a pool of another pipeline",
        "stage \"c\" keeps order by key and has none",
        "aggregate \"d\" has no bound",
        "what comes out of \"d\" goes nowhere",
        "input \"nobody\" has neither a sender nor a source",
    ] {
        assert!(told.contains(part), "{part}\nis not in\n{told}");
    }
    assert_eq!(error.faults.len(), 12, "{told}");
}

#[test]
fn a_pool_that_holds_all_that_is_scheduled_is_accepted() {
    let mut builder = Builder::new("fits");
    let pool = builder.pool("cpu", 2, 4);
    let (_sender, chain) = builder.push_input("in", "test", items(1));
    let chain = chain.stage("a").concurrency(2).on_failure(Policy::skip()).cpu(pool, |n: &mut u64| Ok(*n), items(1));
    chain.stage("b").concurrency(2).on_failure(Policy::skip()).cpu_sink(pool, |_| Ok(()));
    let plan = builder.build().unwrap();
    assert_eq!((plan.graph().pools[0].scheduled, plan.graph().pools[0].holds), (4, 4));
}

fn sample() -> pitwire_pipeline::Plan {
    let mut builder = Builder::new("load");
    let cpu = builder.pool("cpu", 2, 4);
    let mut input = builder.input("raw", Bounds { items: 64, bytes: 8 << 20, weigh: |_: &u64| 8 });
    let _pushed = input.sender("live \"feed\"");
    let input = input.source("files", from_iter(0..500_u64), OnSourceError::EndSource);
    let stage = input.chain().stage("parse").concurrency(4).note("trims").note("splits").on_failure(Policy::skip());
    let chain = stage.cpu(cpu, |n: &mut u64| Ok(*n), items(16));
    let chain = chain.aggregate("rows", Aggregate::new().items(100).age(Duration::from_millis(200)), items(2));
    let _ = chain.outlet("store");
    builder.build().unwrap()
}

#[test]
fn the_graph_is_printed_as_text_from_what_is_built_and_not_started() {
    let expected = "\
pipeline \"load\"
  from \"live \\\"feed\\\"\"
  source \"files\": on failure end this source, 500 items
   │  queue \"raw\": at most 64 items, 8 MiB
  stage \"parse\": 4 at once, order of input, on pool \"cpu\", on failure skip and count
     - trims
     - splits
   │  queue \"parse\": at most 16 items, 128 B
  aggregate \"rows\"
     - batches of 100 items or 200ms
   │  queue \"rows\": at most 2 items, 48 B
  outlet, taken by \"store\"
pool \"cpu\": 2 threads, holds 4 operations, 4 scheduled
";
    assert_eq!(sample().graph().to_text(), expected);
}

#[test]
fn the_graph_is_printed_as_mermaid_with_names_made_harmless() {
    let mermaid = sample().graph().to_mermaid();
    let expected = "\
flowchart LR
    n0([\"live 'feed'\"])
    n1[/\"files<br/>on failure end this source<br/>500 items\"/]
    n2[\"parse<br/>4 at once<br/>order of input<br/>on pool 'cpu'<br/>on failure skip and count<br/>trims<br/>splits\"]
    n3[\"rows<br/>batches of 100 items or 200ms\"]
    n4([\"store\"])
    n0 -->|\"raw: 64 items, 8 MiB\"| n2
    n1 -->|\"raw: 64 items, 8 MiB\"| n2
    n2 -->|\"parse: 16 items, 128 B\"| n3
    n3 -->|\"rows: 2 items, 48 B\"| n4
";
    assert_eq!(mermaid, expected);
}

#[test]
fn the_graph_can_be_written_as_json_and_the_sum_is_shown_as_one() {
    let plan = sample();
    let json = serde_json::to_value(plan.graph()).unwrap();
    assert_eq!((&json["nodes"][2]["name"], &json["nodes"][2]["kind"]), (&"parse".into(), &"cpu".into()));
    assert_eq!(json["edges"][0]["from"][1], "files");
    let sum = plan.run_ahead_max().to_string();
    assert!(sum.starts_with("385 = 1 in the sources' hands + 64 in queue \"raw\" + 4 in parse"), "{sum}");
}

#[tokio::test(start_paused = true)]
async fn building_starts_nothing() {
    let mut builder = Builder::new("still");
    let begun = Inside::default();
    let (input, chain) = builder.push_input("in", "test", items(4));
    chain.stage("a").on_failure(Policy::fail()).sink(Yields(begun.clone()));
    let plan = builder.build().unwrap();
    input.send(1).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(begun.peak(), 0);
    let pipeline = plan.start();
    drop(input);
    assert_eq!(pipeline.join().await.snapshot.stages[0].given, 1);
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_is_dropped_tells_its_senders() {
    let mut builder = Builder::new("dropped");
    let (input, chain) = builder.push_input("in", "test", items(4));
    chain.stage("a").on_failure(Policy::fail()).sink(takes(|_| 0));
    drop(builder.build().unwrap());
    assert_eq!(input.send(7).await.unwrap_err().0, 7);
}
