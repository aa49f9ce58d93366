//! `pitwire pipeline explain` on the configuration that is shipped.

use crate::support::pitwire;

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/pitwire.toml");

fn explain(format: &str) -> String {
    let output = pitwire(&["pipeline", "explain", "--config", SHIPPED, "--format", format]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_shipped_configuration_is_explained_in_text_mermaid_and_json_alike() {
    let (text, mermaid, json) = (explain("text"), explain("mermaid"), explain("json"));
    let graph: serde_json::Value = serde_json::from_str(&json).unwrap();
    let names: Vec<&str> = graph["nodes"].as_array().unwrap().iter().map(|n| n["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["serial ecu", "mqtt car", "decode", "preprocess", "chunk", "deliver"]);
    for name in names {
        assert!(text.contains(&format!("\"{name}\"")) && mermaid.contains(name), "{name}\n{text}\n{mermaid}");
    }
    assert!(text.ends_with("the queues hold at most 3328 items and 32.0 MiB\n"), "{text}");
    assert!(text.contains("- dedup") && mermaid.starts_with("flowchart LR"), "{text}\n{mermaid}");
}

#[test]
fn a_faulty_configuration_is_refused_with_its_line_and_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pitwire.toml");
    std::fs::write(&path, "car = \"44\"\n[[preprocess.derive]]\nname = \"a\"\nexpression = \"b +\"\n").unwrap();
    let output = pitwire(&["pipeline", "explain", "--config", path.to_str().unwrap()]);
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{words}");
    assert!(words.contains("pitwire.toml:4: preprocess.derive[0].expression"), "{words}");
}
