//! The metrics, by the grammar of OpenMetrics 1.0.

use std::collections::BTreeSet;

use super::*;

/// A family as its head declares it, with its samples by series.
#[derive(Default)]
struct Family {
    kind: String,
    unit: Option<String>,
    samples: BTreeMap<String, f64>,
}

/// Reads a whole exposition; panics with the line that breaks the grammar.
fn parse(text: &str) -> BTreeMap<String, Family> {
    let body = text.strip_suffix("# EOF\n").expect("it ends with the end marker");
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in body.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap_or_else(|| panic!("no text: {line}"));
            assert!(is_name(name), "{line}");
            assert!(help.ends_with('.') && !help.contains('\\'), "{line}");
            assert!(families.insert(name.into(), Family::default()).is_none(), "a family twice: {line}");
            current = name.into();
            continue;
        }
        let family = families.get_mut(&current).unwrap_or_else(|| panic!("before any HELP: {line}"));
        if let Some(kind) = line.strip_prefix(&format!("# TYPE {current} ")) {
            assert!(["counter", "gauge", "info"].contains(&kind) && family.kind.is_empty(), "{line}");
            family.kind = kind.into();
        } else if let Some(unit) = line.strip_prefix(&format!("# UNIT {current} ")) {
            assert!(current.ends_with(&format!("_{unit}")), "the name lacks its unit: {line}");
            family.unit = Some(unit.into());
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
            let name_end = series.find('{').unwrap_or(series.len());
            let suffix = match family.kind.as_str() {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            assert_eq!(&series[..name_end], format!("{current}{suffix}"), "{line}");
            check_labels(&series[name_end..]);
            let value: f64 = value.parse().unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(value.is_finite() && (suffix.is_empty() || value >= 0.0), "{line}");
            assert!(family.samples.insert(series.into(), value).is_none(), "a series twice: {line}");
        }
    }
    for (name, family) in &families {
        assert!(!family.kind.is_empty(), "{name} has no type");
    }
    families
}

fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn check_labels(labels: &str) {
    if labels.is_empty() {
        return;
    }
    let mut rest = labels.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).expect(labels);
    let mut names = BTreeSet::new();
    loop {
        let (name, value) = rest.split_once("=\"").expect(labels);
        assert!(is_name(name) && names.insert(name), "{labels}");
        let mut escaped = false;
        let end = value.find(|c| {
            let closes = c == '"' && !escaped;
            assert!(!escaped || ['"', '\\', 'n'].contains(&c), "{labels}");
            escaped = c == '\\' && !escaped;
            closes
        });
        rest = &value[end.expect(labels) + 1..];
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None => break,
        }
    }
    assert_eq!(rest, "", "{labels}");
}

#[tokio::test]
async fn metrics_keep_the_grammar_and_show_every_line_of_the_ledger() {
    let monitor = Running::start().await;
    let answer = monitor.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(answer.headers["content-type"].starts_with("application/openmetrics-text; version=1.0.0"));
    let families = parse(&answer.body);
    let ecu = r#"source="ecu \"front\"""#;
    for (family, series, value) in [
        ("pitwire_samples_received", format!("_total{{{ecu}}}"), 100.0),
        ("pitwire_samples_recovered", format!("_total{{{ecu}}}"), 10.0),
        ("pitwire_samples_stored", format!("_total{{{ecu}}}"), 80.0),
        ("pitwire_samples_backlog", format!("{{{ecu}}}"), 15.0),
        ("pitwire_samples_in_flight", format!("{{{ecu}}}"), 5.0),
        ("pitwire_samples_quarantined", format!("_total{{{ecu}}}"), 3.0),
        ("pitwire_samples_duplicate", format!("_total{{{ecu}}}"), 3.0),
        ("pitwire_samples_dropped", format!("_total{{{ecu},policy=\"validate\"}}"), 4.0),
        ("pitwire_samples_dropped", format!("_total{{{ecu},policy=\"overflow\"}}"), 0.0),
        ("pitwire_ledger_balanced", String::new(), 1.0),
        ("pitwire_derived_samples_stored", "_total".into(), 9.0),
        (
            "pitwire_preprocess_samples",
            "_total{step=\"validate\",rule=\"brake.*\",reason=\"out_of_range\"}".into(),
            4.0,
        ),
        ("pitwire_gaps", "_total{reason=\"restart\"}".into(), 2.0),
        ("pitwire_gap_frames", "_total{reason=\"restart\"}".into(), 30.0),
        ("pitwire_config_revision", String::new(), 2.0),
        ("pitwire_config_refused", "_total".into(), 1.0),
        ("pitwire_source_up", format!("{{{ecu},kind=\"serial\"}}"), 1.0),
        ("pitwire_source_received_bytes", format!("_total{{{ecu}}}"), 4096.0),
        ("pitwire_source_quiet_seconds", format!("{{{ecu}}}"), 0.5),
        ("pitwire_device_frames_lost", format!("_total{{{ecu},car=\"44\",device=\"ecu\"}}"), 4.0),
        ("pitwire_queue_items_limit", "{queue=\"decode\"}".into(), 1024.0),
        ("pitwire_queue_blocked_seconds", "_total{queue=\"decode\"}".into(), 1.5),
        ("pitwire_spill_state", "{state=\"draining\"}".into(), 1.0),
        ("pitwire_spill_state", "{state=\"full\"}".into(), 0.0),
        ("pitwire_spill_priority_backlog_samples", "{priority=\"low\"}".into(), 10.0),
        ("pitwire_spill_priority_dropped_samples", "_total{priority=\"low\"}".into(), 3.0),
        ("pitwire_spill_undeclared_records", "_total".into(), 0.0),
        ("pitwire_spill_encrypted", String::new(), 1.0),
        ("pitwire_spill_locked_segments", String::new(), 2.0),
        ("pitwire_spill_written_bytes", "_total".into(), 1024.0),
        ("pitwire_store_state", "{state=\"up\"}".into(), 1.0),
        ("pitwire_store_write_latency_seconds", "{quantile=\"0.99\"}".into(), 0.002),
        ("pitwire_deliver_mode", "{state=\"draining\"}".into(), 1.0),
        ("pitwire_nothing_writable", String::new(), 0.0),
        ("process_resident_memory_bytes", String::new(), 1_048_576.0),
        ("process_cpu_seconds", "_total".into(), 0.25),
        ("pitwire", "_info{version=\"0.1.0\",agent=\"a1b2\",car=\"44\"}".into(), 1.0),
    ] {
        let found = families.get(family).and_then(|found| found.samples.get(&format!("{family}{series}")));
        assert_eq!(found, Some(&value), "{family}{series} in\n{}", answer.body);
    }
    let age = &families["pitwire_spill_oldest_age_seconds"];
    assert!(age.samples.is_empty() && age.unit.as_deref() == Some("seconds"), "what is not known is not shown");
}

#[test]
#[should_panic(expected = "a series twice")]
fn the_check_itself_sees_a_series_that_comes_twice() {
    parse("# HELP a A.\n# TYPE a gauge\na{b=\"c\"} 1\na{b=\"c\"} 2\n# EOF\n");
}

#[test]
#[should_panic(expected = "assertion")]
fn the_check_itself_sees_a_counter_without_its_suffix() {
    parse("# HELP a A.\n# TYPE a counter\na 1\n# EOF\n");
}
