use super::*;

const GOOD: &str = r#"
car = "44"

[store]
url = "sqlite:///tmp/pitwire.db"

[deliver]
flush_after = "200ms"
durable_within = "1s"

[[source.serial]]
name = "ecu"
path = "/dev/ttyACM0"

[[source.mqtt]]
name = "car"
url = "mqtt://127.0.0.1:1883"
topics = ["pitwire/44/#"]
"#;

/// Checks that `from` replaced by `to` in a good configuration gives exactly the faults (line, part of text).
fn check(from: &str, to: &str, expected: &[(Option<usize>, &str)]) {
    assert!(GOOD.contains(from));
    let faults = Config::parse(&GOOD.replacen(from, to, 1)).err().unwrap_or_default();
    assert_eq!(faults.len(), expected.len(), "{faults:?}");
    for (fault, (line, part)) in faults.iter().zip(expected) {
        assert!(fault.line == *line && fault.what.contains(part), "{fault:?}, expected {line:?} {part:?}");
    }
}

#[test]
fn a_good_file_has_the_documented_defaults() {
    let config = Config::parse(GOOD).unwrap();
    assert_eq!(config.source.serial[0].baud, 921_600);
    assert_eq!(config.source.mqtt[0].receive_maximum, 4_096);
    assert_eq!(config.spill.disk_max, bytesize::ByteSize::gib(2));
    assert_eq!(config.quarantine_dir(), Path::new("/var/lib/pitwire/quarantine"));
}

#[test]
fn every_fault_is_named_with_its_line() {
    check("car = \"44\"", "car = \"4 4\"", &[(Some(2), "car")]);
    check("flush_after", "flush_aftr", &[(Some(8), "unknown field `flush_aftr`")]);
    check("\"200ms\"", "\"600ms\"", &[(Some(8), "at most half of durable_within")]);
    check("name = \"car\"", "name = \"ecu\"", &[(Some(16), "taken by another source")]);
    check("mqtt://127.0.0.1:1883", "http://x", &[(Some(17), "is not mqtt://host:port")]);
    check("path = \"/dev/ttyACM0\"", "path = \"/dev/ttyACM0\"\nformat = \"json\"", &[(Some(14), "json")]);
    check("topics = [\"pitwire/44/#\"]", "topics = []", &[(Some(18), "at least one")]);
    check("sqlite:///tmp/pitwire.db", "postgres://x", &[(Some(5), "cassandra://")]);
}

#[test]
fn several_faults_are_named_at_once() {
    let text = GOOD.replace("flush_after", "flush_aftr").replace("baud", "boud").replace("\"1s\"", "\"soon\"");
    let faults = Config::parse(&text).unwrap_err();
    assert_eq!(faults.iter().filter_map(|fault| fault.line).collect::<Vec<_>>(), [8, 9], "{faults:?}");
}

#[test]
fn what_is_absent_is_named_as_well() {
    let faults = Config::parse("").unwrap_err();
    assert!(faults[0].what.contains("missing field `car`"), "{faults:?}");
    let faults = Config::parse("car = \"44\"").unwrap_err();
    assert!(faults[0].what.contains("no source"), "{faults:?}");
}

#[test]
fn a_text_that_is_no_toml_names_the_line() {
    let faults = Config::parse("car = \"44\"\n[store\n").unwrap_err();
    assert_eq!(faults[0].line, Some(2), "{faults:?}");
}
