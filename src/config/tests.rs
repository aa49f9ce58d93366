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
    check(
        "flush_after = \"200ms\"",
        "writes_in_flight = 1\nbacklog_share = 100",
        &[(Some(8), "from 2 to 512"), (Some(9), "from 1 to 75 percent")],
    );
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

#[test]
fn a_wrong_value_is_named_with_its_whole_key_and_what_would_be_right() {
    check_section(
        "[spill]\ndisk_max = \"2GB!\"\ndir = 5\nreserve_bytes = []\nsegment_bytes = true\noverflow = \"burn\"",
        &[
            (2, "spill.disk_max: "),
            (3, "spill.dir: invalid type: integer `5`, expected a path, an absolute one in quotes, e.g. \"/var"),
            (4, "spill.reserve_bytes: invalid type: sequence, expected a size"),
            (5, "expected a size, a text with a unit, e.g. \"64MiB\" or \"2GiB\""),
            (6, "`block` for spill.overflow"),
        ],
    );
    check_section("[spill]\ndisk_max = \"2GB!\"", &[(2, "e.g. \"64MiB\" or \"2GiB\"")]);
    check_section("[monitor]\nenabled = 1\nlisten = \"x\"", &[(2, "true or false"), (3, "monitor.listen: `x` is no")]);
    check_section("[[preprocess.calibrate]]\nchannel = \"a\"\nscale = \"2\"", &[(3, "calibrate[0].scale: invalid")]);
    check_section(
        "[[source.serial]]\nname = \"x\"\npath = \"/dev/x\"\nbaud = \"fast\"\ncar = 4",
        &[
            (4, "source.serial[1].baud: invalid type: string \"fast\", expected a whole number"),
            (5, "source.serial[1].car: invalid type: integer `4`, expected a text in quotes"),
        ],
    );
    check(
        "\"1s\"",
        "\"1\"",
        &[(Some(9), "deliver.durable_within: invalid value: string \"1\", expected a duration, a")],
    );
    check(
        "[\"pitwire/44/#\"]",
        "\"pitwire/44/#\"",
        &[(Some(18), "topics: invalid type: string \"pitwire/44/#\", expected a list")],
    );
    check("[\"pitwire/44/#\"]", "[\"a\", 5]", &[(Some(18), "source.mqtt[0].topics[1]: invalid type")]);
    check("[deliver]", "[[deliver]]", &[(Some(7), "a section that begins with [deliver], once")]);
    check("[[source.serial]]", "[source.serial]", &[(Some(11), "each entry of which begins with [[source.serial]]")]);
    check("path = \"/dev/ttyACM0\"", "", &[(Some(11), "source.serial[0]: missing field `path`")]);
}

#[test]
fn an_entry_without_a_required_key_does_not_hide_the_next_entries() {
    check(
        "path = \"/dev/ttyACM0\"",
        "[[source.serial]]\nname = 5\npath = \"/p\"",
        &[
            (Some(11), "source.serial[0]: missing field `path`"),
            (Some(14), "source.serial[1].name: invalid type: integer `5`"),
        ],
    );
}

#[test]
fn topics_that_no_broker_takes_are_refused() {
    for wrong in ["a/#/b", "a+/b", "a/b#", "", "\\u0000", "#/a", "$share/group", "$share//a", "$share/g+/a"] {
        check("pitwire/44/#", wrong, &[(Some(18), "is no topic filter")]);
    }
    check("pitwire/44/#", &"a".repeat(65_536), &[(Some(18), "65535 bytes")]);
    for right in ["#", "+", "+/a/+/#", "/", "a//b", "$share/g/a/#", "pit wire/44"] {
        check("pitwire/44/#", right, &[]);
    }
    check("\"pitwire/44/#\"", "\"a/#/b\", \"ok\", \"\"", &[(Some(18), "\"a/#/b\" is no"), (Some(18), "\"\" is no")]);
}

#[test]
fn a_port_or_a_session_that_two_sources_would_share_is_refused() {
    check_section(
        "[[source.serial]]\nname = \"x\"\npath = \"/dev/ttyACM0\"",
        &[(3, "\"/dev/ttyACM0\" is read by the source \"ecu\" already")],
    );
    let mqtt = |name: &str, url: &str, id: &str| {
        format!("[[source.mqtt]]\nname = \"{name}\"\nurl = \"{url}\"\ntopics = [\"t\"]\n{id}\n")
    };
    let id = "client_id = \"c\"";
    let same = mqtt("x", "mqtt://h", id) + &mqtt("y", "mqtt://h:1883/", id);
    check_section(&same, &[(10, "\"c\" is taken at this broker by the source \"x\"")]);
    check_section(&(mqtt("x", "mqtt://h", id) + &mqtt("y", "mqtt://other", id)), &[]);
    check_section(&(mqtt("x", "mqtt://h", "") + &mqtt("y", "mqtt://h", "")), &[]);
}

#[test]
fn directories_that_depend_on_the_working_directory_are_refused() {
    check("car = \"44\"", "car = \"44\"\nstate_dir = \"state\"", &[(Some(3), "e.g. \"/var/lib/pitwire\"")]);
    check_section("[spill]\ndir = \"spill\"", &[(2, "spill.dir: \"spill\" would depend on the working directory")]);
    check_section("[quarantine]\ndir = \"./q\"", &[(2, "use an absolute path, e.g. \"/var/lib/pitwire/quarantine\"")]);
    check_section("[spill]\ndir = \"\"", &[(2, "must name a directory")]);
}

#[test]
fn one_mistake_is_one_fault() {
    check("\"1s\"", "\"0s\"", &[(Some(9), "deliver.durable_within: must be at least 20ms")]);
    check("\"200ms\"", "\"20s\"", &[(Some(8), "must be from 10ms to 10s")]);
    let unread = |flush: &str, durable: &str| GOOD.replace("\"200ms\"", flush).replace("\"1s\"", durable);
    for (text, key) in [(unread("\"3s\"", "\"soon\""), "durable_within"), (unread("5", "\"100ms\""), "flush_after")] {
        let faults = Config::parse(&text).unwrap_err();
        assert!(faults.len() == 1 && faults[0].what.contains(key), "{faults:?}");
    }
    check("\"1s\"", "\"1m\"\ndrain_within = \"long\"", &[(Some(10), "deliver.drain_within: invalid")]);
    check_section("[spill]\ndisk_max = \"1MiB\"", &[(2, "must be at least 16.0 MiB, two segments")]);
    check_section(
        "[priority]\nhigh = [\"a\"]\nlow = [\"b\"]\n[spill]\ndisk_max = \"40MiB\"",
        &[(5, "must be at least 48.0 MiB, two segments for each of 3 priorities")],
    );
    check_section(
        "[priority]\nhigh = [\"a\"]\nlow = [\"a\", \"\"]",
        &[(3, "priority.low: pattern 2 is \"\""), (3, "priority.low: \"a\" is under priority.high as well")],
    );
    check_section("[spill]\ndisk_max = \"5MiB\"\nsegment_bytes = \"big\"", &[(3, "spill.segment_bytes: ")]);
    check_section("[spill]\ndisk_max = \"1GiB\"\nsegment_bytes = \"2GiB\"", &[(3, "must be a multiple of 4 KiB")]);
    check_section("[spill]\ndir = 5\n[quarantine]\ndir = \"/var/lib/pitwire/spill\"", &[(2, "spill.dir: ")]);
}
