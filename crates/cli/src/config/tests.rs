//! Facts about the configuration.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use super::*;
use crate::arguments::Settings;

const EXAMPLE: &str = include_str!("../../../../wilco.example.toml");

#[test]
fn the_example_says_the_defaults() {
    assert_eq!(file::parse(EXAMPLE), Ok(Config::default()));
}

#[test]
fn the_example_has_every_key() {
    let example: toml::Table = EXAMPLE.parse().expect("TOML");
    let all: toml::Table =
        toml::from_str(&Config::default().to_toml().expect("TOML")).expect("TOML");
    assert_eq!(example, all);
}

#[test]
fn every_key_has_a_text_of_what_is_allowed() {
    let all: toml::Table =
        toml::from_str(&Config::default().to_toml().expect("TOML")).expect("TOML");
    for (section, entries) in &all {
        for key in entries.as_table().expect("a section").keys() {
            assert_ne!(keys::allowed(&format!("{section}.{key}")), "nothing", "{section}.{key}");
        }
    }
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(file::parse(""), Ok(Config::default()));
    assert_eq!(file::parse("[limits]\n"), Ok(Config::default()));
}

#[test]
fn what_is_wrong_is_told_in_one_line() {
    let check = |text: &str, expected: &str| {
        assert_eq!(file::parse(text).expect_err("refused"), expected, "{text}");
    };
    check(
        "[listen]\n\namqp = \"5672\"\n",
        "3: listen.amqp: \"5672\" is not allowed; expected an address and a port such as \
         \"127.0.0.1:5672\"",
    );
    check(
        "[limits]\nheartbeat_s = -1\n",
        "2: limits.heartbeat_s: -1 is not allowed; expected a number of seconds from 0 (no \
         heartbeats) to 65535",
    );
    check(
        "[limits]\nframe_max = 100 # tiny\n",
        "2: limits.frame_max: 100 is not allowed; expected a number of bytes from 4096 to \
         16777216 (16 MiB)",
    );
    check(
        "limits.channel_max = \"many\"\n",
        "1: limits.channel_max: \"many\" is not allowed; expected a number from 1 to 65535",
    );
    check(
        "[store]\ndurability = \"fast\"\n",
        "2: store.durability: \"fast\" is not allowed; expected \"synced\" or \"relaxed\"",
    );
    check(
        "[auth]\nloopback_users = [\n  \"guest\",\n  7,\n]\n",
        "4: auth.loopback_users: 7 is not allowed; expected a list of user names such as \
         [\"guest\"]",
    );
    check(
        "[log]\nfilter = \"server=loud\"\n",
        "2: log.filter: \"server=loud\" is not allowed; expected a filter such as \"info\" or \
         \"warn,server=debug\"",
    );
    check(
        "[listen]\nmqtt = \"127.0.0.1:1883\"\n",
        "2: listen.mqtt: unknown key; expected amqp or http",
    );
    check(
        "\n[listener]\namqp = \"127.0.0.1:1883\"\n",
        "2: listener: unknown key; expected one of listen, store, ledger, limits, auth, http, \
         webhooks, log",
    );
    check("listen = 5672\n", "1: listen: 5672 is not allowed; expected a section");
    let broken = file::parse("[listen]\namqp = \n").expect_err("refused");
    assert!(broken.starts_with("2: ") && !broken.contains('\n'), "{broken}");
}

/// Loads with a file that has this text, these variables and these settings.
fn load(text: &str, variables: &[(&str, &str)], mut settings: Settings) -> Result<Config, Failure> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("some.toml");
    fs::write(&path, text).expect("written");
    settings.config = Some(path);
    let variable = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| OsString::from(value))
    };
    Config::load_from(&settings, Path::new("/no/such/file"), variable).map(|(config, _)| config)
}

#[test]
fn command_line_wins_over_environment_over_file_over_default() {
    let text = "[listen]\namqp = \"127.0.0.1:1\"\nhttp = \"127.0.0.1:1\"\n[store]\ndata = \"f\"\n";
    let variables = [("WILCO_AMQP", "127.0.0.1:2"), ("WILCO_DATA", "e"), ("WILCO_LOG", "warn")];
    let settings = Settings { data: Some("c".to_owned()), ..Settings::default() };
    let config = load(text, &variables, settings).expect("a configuration");
    assert_eq!(config.store.data, Path::new("c"));
    assert_eq!(config.listen.amqp.to_string(), "127.0.0.1:2");
    assert_eq!(config.listen.http.to_string(), "127.0.0.1:1");
    assert_eq!(config.log.filter, "warn");
    assert_eq!(config.limits, Limits::default());
}

#[test]
fn http_can_be_turned_off() {
    let check = |text: &str, variables: &[(&str, &str)], flag: Option<&str>, expected: &str| {
        let settings = Settings { http: flag.map(str::to_owned), ..Settings::default() };
        let config = load(text, variables, settings).expect("a configuration");
        assert_eq!(config.listen.http.to_string(), expected, "{text} {variables:?} {flag:?}");
    };
    check("", &[], None, "127.0.0.1:15672");
    check("", &[], Some("off"), "off");
    check("", &[], Some(""), "off");
    check("", &[("WILCO_HTTP", "off")], None, "off");
    check("", &[("WILCO_HTTP", "off")], Some("127.0.0.1:1"), "127.0.0.1:1");
    check("[listen]\nhttp = \"off\"\n", &[], None, "off");
    check("[listen]\nhttp = \"\"\n", &[], None, "off");
    check("[listen]\nhttp = \"off\"\n", &[("WILCO_HTTP", "[::1]:0")], None, "[::1]:0");
}

#[test]
fn hours_of_the_ledger_reach_the_node_in_its_unit() {
    let text = "[ledger]\nretention_hours = 2\nsize_bytes_max = 33554432\ndedup_window_hours = 3\n";
    let options = file::parse(text).expect("a configuration").node_options().ledger;
    assert_eq!((options.retention_ms, options.window_ms), (7_200_000, 10_800_000));
    assert_eq!(options.bytes_max, 32 << 20);
}

#[test]
fn a_bad_value_is_named_by_where_it_comes_from() {
    let message = |variables: &[(&str, &str)], settings| match load("", variables, settings) {
        Err(Failure::Usage(text)) => text,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        message(&[("WILCO_HTTP", "here")], Settings::default()),
        "WILCO_HTTP: \"here\" is not allowed; expected an address and a port such as \
         \"127.0.0.1:15672\", or \"off\""
    );
    let settings = Settings { amqp: Some("localhost".to_owned()), ..Settings::default() };
    assert!(message(&[], settings).starts_with("--amqp: \"localhost\" is not allowed"));
    let settings = Settings { data: Some(String::new()), ..Settings::default() };
    assert!(message(&[], settings).starts_with("--data or WILCO_DATA: \"\" is not allowed"));
    assert!(
        message(&[("WILCO_LOG", "a=b")], Settings::default()).starts_with("WILCO_LOG: \"a=b\"")
    );
}

#[test]
fn a_file_is_read_by_name_or_if_it_is_there() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("wilco.toml");
    let load = |settings: &Settings| Config::load_from(settings, &path, |_| None);
    assert!(matches!(load(&Settings::default()), Ok((_, None))));
    fs::write(&path, "[limits]\nchannel_max = 7\n").expect("written");
    let (config, file) = load(&Settings::default()).expect("a configuration");
    assert_eq!((config.limits.channel_max, file), (7, Some(path.clone())));
    let missing = Settings { config: Some("/no/such/wilco.toml".into()), ..Settings::default() };
    match load(&missing) {
        Err(Failure::Usage(text)) => assert!(text.starts_with("cannot read /no/such/wilco.toml: ")),
        other => panic!("{other:?}"),
    }
}
