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

/// Checks that `section` below a good configuration gives exactly these faults: (its line from 1, part of text).
#[track_caller]
fn check_section(section: &str, expected: &[(usize, &str)]) {
    let faults = Config::parse(&format!("{GOOD}{section}")).err().unwrap_or_default();
    let before = GOOD.lines().count();
    let found: Vec<_> = faults.iter().map(|f| (f.line.map_or(0, |line| line - before), f.what.as_str())).collect();
    assert_eq!(found.len(), expected.len(), "{section}: {found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.0 == expected.0 && found.1.contains(expected.1), "{section}: {found:?}, expected {expected:?}");
    }
}

#[test]
fn in_every_section_an_unknown_key_a_wrong_type_and_a_wrong_unit_are_named_with_their_lines() {
    let unknown = "unknown field `nonsense`";
    check_section(
        "[spill]\nnonsense = 1\ndir = 5\ndisk_max = \"2 parsecs\"\noverflow = \"burn\"",
        &[(2, unknown), (3, "invalid type: integer `5`"), (4, "parsecs"), (5, "unknown variant `burn`")],
    );
    check_section(
        "[quarantine]\nnonsense = 1\ndir = true\ndisk_max = \"big\"",
        &[(2, unknown), (3, "invalid type: boolean `true`"), (4, "big")],
    );
    check_section(
        "[monitor]\nnonsense = 1\nenabled = \"yes\"\nlisten = \"0.0.0.0:8710\"",
        &[(2, unknown), (3, "invalid type: string \"yes\""), (4, "not a loopback address")],
    );
    check_section("[clock]\nnonsense = 1\ntrust = \"nobody\"", &[(2, unknown), (3, "unknown variant `nobody`")]);
    check_section(
        "[[preprocess.calibrate]]\nchannel = \"a\"\nnonsense = 1\nscale = \"2\"",
        &[(3, unknown), (4, "invalid type: string \"2\"")],
    );
    check_section(
        "[[preprocess.validate]]\nchannel = \"a\"\nnonsense = 1\naction = \"ignore\"\nmin = 3\nmax = 2",
        &[(3, unknown), (4, "unknown variant `ignore`"), (5, "must not be above max 2")],
    );
    check_section(
        "[[source.serial]]\nname = \"x\"\npath = \"/dev/x\"\nnonsense = 1\nbaud = \"fast\"\nformat = \"morse\"",
        &[(4, unknown), (5, "invalid type: string \"fast\""), (6, "unknown variant `morse`")],
    );
    let mqtt = "[[source.mqtt]]\nname = \"x\"\nurl = \"mqtt://h\"\ntopics = [\"t\"]\n";
    check_section(
        &format!("{mqtt}nonsense = 1\nkeep_alive = \"10 laps\"\nreceive_maximum = 70000\nsession_expiry = 5"),
        &[(5, unknown), (6, "laps"), (7, "invalid value: integer `70000`"), (8, "invalid type: integer `5`")],
    );
    check_section(
        &format!("{mqtt}[source.mqtt.tls]\nnonsense = 1\nca = 3"),
        &[(6, unknown), (7, "invalid type: integer `3`")],
    );
    let store = "url = \"sqlite:///tmp/pitwire.db\"";
    let in_store = format!("{store}\nnonsense = 1\nttl = \"a while\"\nreplication = -1\ncompression = \"zip\"");
    check(
        store,
        &in_store,
        &[(Some(6), unknown), (Some(7), "expected a duration"), (Some(8), "integer `-1`"), (Some(9), "variant `zip`")],
    );
    let deliver = "flush_after = \"200ms\"";
    check(
        deliver,
        "flush_after = 200\nnonsense = 1\ndrain_within = \"8 s and a bit\"",
        &[(Some(8), "invalid type: integer `200`"), (Some(9), unknown), (Some(10), "")],
    );
}

#[test]
fn unknown_sections_and_root_keys_are_named_and_hide_nothing_behind_them() {
    check_section("[stor]\nurl = 5\n[clock]\nnonsense = 1", &[(1, "unknown field `stor`"), (4, "`nonsense`")]);
    check_section("[[source.can]]\nname = 5", &[(1, "unknown field `can`")]);
    check("car = \"44\"", "car = 44\nteam = \"x\"", &[(Some(2), "invalid type: integer `44`"), (Some(3), "`team`")]);
    check("[deliver]", "[[deliver]]", &[(Some(7), "invalid type")]);
}

#[test]
fn a_required_key_is_named_once_whether_it_is_absent_or_wrong() {
    check("path = \"/dev/ttyACM0\"", "", &[(Some(11), "missing field `path`")]);
    check("path = \"/dev/ttyACM0\"", "path = 7", &[(Some(13), "invalid type: integer `7`")]);
    check("url = \"mqtt://127.0.0.1:1883\"\n", "", &[(Some(15), "missing field `url`")]);
}

#[test]
fn several_faults_are_named_at_once_in_the_order_of_the_file() {
    let text = GOOD.replace("flush_after", "flush_aftr").replace("\"1s\"", "\"soon\"").replace("mqtt://", "http://");
    let faults = Config::parse(&text).unwrap_err();
    assert_eq!(faults.iter().filter_map(|fault| fault.line).collect::<Vec<_>>(), [8, 9, 17], "{faults:?}");
    let text = "car = \n[store\nurl = \"x\nb = = 1";
    assert!(Config::parse(text).unwrap_err().len() > 1, "{:?}", Config::parse(text));
}

#[test]
fn budgets_that_hold_no_flush_are_refused() {
    check_section("[spill]\ndisk_max = \"1MiB\"\nsegment_bytes = \"64KiB\"", &[(2, "must be at least 4.0 MiB")]);
    check_section("[quarantine]\ndisk_max = \"1MiB\"", &[(2, "must be at least 4.0 MiB")]);
}

#[test]
fn the_shipped_file_is_good_and_says_the_defaults() {
    let text = include_str!("../../systemd/pitwire.toml");
    let config = Config::parse(text).unwrap();
    let defaults = Config::parse("car = \"44\"\n[[source.serial]]\nname = \"ecu\"\npath = \"/p\"").unwrap();
    assert_eq!(config.car, "44");
    assert_eq!((&config.state_dir, &config.spill), (&defaults.state_dir, &defaults.spill));
    assert_eq!((&config.deliver, &config.monitor), (&defaults.deliver, &defaults.monitor));
    assert_eq!((&config.quarantine, &config.clock), (&defaults.quarantine, &defaults.clock));
    assert_eq!(config.preprocess, defaults.preprocess);
    assert_eq!(config.store, store::Config::for_url("cassandra://127.0.0.1:9042/pitwire".parse().unwrap()));
    assert_eq!(config.source.serial[0].baud, defaults.source.serial[0].baud);
    assert_eq!((config.source.serial.len(), config.source.mqtt.len()), (1, 1));
    assert_eq!(config.source.mqtt[0].topics, ["pitwire/44/#"]);
}

#[test]
fn every_section_comes_back_from_its_own_text() {
    let config = Config::parse(GOOD).unwrap();
    assert_eq!(Config::parse(&toml::to_string(&config).unwrap()).unwrap(), config);
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
