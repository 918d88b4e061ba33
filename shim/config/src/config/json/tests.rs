//! Tests of reading and writing `container.json`.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

fn error(json: &str) -> String {
    let error = Config::from_json(json.as_bytes()).expect_err(json);
    assert_eq!(error.code(), Code::ConfigInvalid);
    error.to_string()
}

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples").join(name)
}

#[test]
fn errors_have_field_value_and_position() {
    for (json, text) in [
        (
            r#"{"mounts": [{}, {"flags": "nosuidd"}]}"#,
            "configuration `mounts[1].flags = \"nosuidd\"`: unknown mount option \
             (line 1 column 35)",
        ),
        (
            "{\n \"mounts\": [{\"flags\": [\"ro\", \"nosuidd\"]}]}",
            "configuration `mounts[0].flags[1] = \"nosuidd\"`: unknown mount option \
             (line 2 column 39)",
        ),
        (
            r#"{"devices": [{"type": "char"}]}"#,
            "configuration `devices[0].type = \"char\"`: expected a letter, or its number \
             (line 1 column 29)",
        ),
        (
            r#"{"devices": [{}]}"#,
            "configuration `devices[0]`: missing field `type` (line 1 column 15)",
        ),
        (
            r#"{"uid_mappings": [{"container_id": -1}]}"#,
            "configuration `uid_mappings[0].container_id = -1`: expected a whole number from 0 \
             to 4294967295 (line 1 column 37)",
        ),
        (
            r#"{"hostnam": "x"}"#,
            "configuration `hostnam = \"x\"`: unknown field (line 1 column 10)",
        ),
        (
            r#"{"cgroups": {"memory": "64x"}}"#,
            "configuration `cgroups.memory = \"64x\"`: expected a number of bytes, or one with \
             k, m, g or t as in \"64m\" (line 1 column 29)",
        ),
        (
            r#"{"cgroups": {"allowed_devices": ["c 1:3"]}}"#,
            "configuration `cgroups.allowed_devices[0] = \"c 1:3\"`: expected a rule like \
             \"c 1:3 rwm\" (line 1 column 40)",
        ),
        (
            r#"{"cgroups": {"allowed_devices": [{"type": 99, "mayor": 1}]}}"#,
            "configuration `cgroups.allowed_devices[0].mayor = 1`: unknown field \
             (line 1 column 53)",
        ),
        (
            r#"{"namespaces": [{"type": "NEWBOOT"}]}"#,
            "configuration `namespaces[0].type = \"NEWBOOT\"`: unknown namespace \
             (line 1 column 35)",
        ),
        (
            r#"{"capabilities": ["KILL", "CAP_NO"]}"#,
            "configuration `capabilities[1] = \"CAP_NO\"`: unknown capability \
             (line 1 column 35)",
        ),
        (
            r#"{"rlimits": [{"type": "files"}]}"#,
            "configuration `rlimits[0].type = \"files\"`: expected the number or name of a \
             resource limit (line 1 column 30)",
        ),
        (
            r#"{"seccomp": {"syscalls": [{"value": 1.5}]}}"#,
            "configuration `seccomp.syscalls[0].value = 1.5`: expected a whole number from 0 to \
             4294967295 (line 1 column 39)",
        ),
        (
            r#"{"system_properties": {"net.x": 1}}"#,
            "configuration `system_properties.net.x = 1`: expected a string (line 1 column 33)",
        ),
        (r#"{"mounts": {}}"#, "configuration `mounts`: expected a sequence (line 1 column 11)"),
    ] {
        assert_eq!(error(json), text);
    }
}

#[test]
fn syntax_errors_have_a_position() {
    for (json, text) in [
        ("", "configuration `line 1 column 0`: empty"),
        (" \n", "configuration `line 1 column 0`: empty"),
        ("[]", "configuration `line 1 column 0`: expected an object"),
        ("[{}]", "configuration `line 1 column 0`: expected an object"),
        ("null", "configuration `line 1 column 4`: expected an object"),
        ("{", "configuration `line 1 column 1`: EOF while parsing an object"),
        ("{}x", "configuration `line 1 column 3`: trailing characters"),
        ("{\"hostname\" 1}", "configuration `line 1 column 13`: expected `:`"),
        ("\u{feff}{}", "configuration `line 1 column 1`: expected value"),
    ] {
        assert_eq!(error(json), text);
    }
    let text = Config::from_json(b"{\"hostname\": \"\xff\"}").unwrap_err().to_string();
    assert_eq!(text, "configuration `line 1 column 15`: invalid unicode code point");
}

#[test]
fn lists_in_place_of_objects_are_refused() {
    for json in [
        r#"{"cgroups": ["x"]}"#,
        r#"{"rlimits": [[7, 1, 1]]}"#,
        r#"{"mounts": [["proc", "/proc"]]}"#,
        r#"{"seccomp": {"syscalls": [[1, 1]]}}"#,
    ] {
        assert!(error(json).contains("expected an object"), "{json}");
    }
}

#[test]
fn duplicate_keys_are_refused() {
    for json in [
        r#"{"hostname": "a", "hostname": "b"}"#,
        r#"{"sysctl": {}, "system_properties": {}}"#,
        r#"{"sysctl": {"a": "1", "a": "2"}}"#,
        r#"{"cgroups": {"memory": 1, "memory": 2}}"#,
    ] {
        assert!(error(json).contains("duplicate"), "{json}");
    }
}

#[test]
fn deep_and_long_documents_give_short_errors() {
    for (open, close) in [("[", "]"), ("{\"mounts\":", "}")] {
        let deep = open.repeat(200_000) + &close.repeat(200_000);
        assert!(error(&deep).len() < 300);
        assert!(error(&format!("{{\"mounts\": {deep}}}")).len() < 300);
    }
    let long = "x".repeat(1 << 20);
    assert!(error(&format!("{{\"{long}\": 1}}")).len() < 300);
    assert!(error(&format!("{{\"rlimits\": [{{\"type\": \"{long}\"}}]}}")).len() < 300);
    assert!(error(&format!("{{\"mounts\": \"{long}\"}}")).len() < 300);

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("container.json");
    File::create(&file).unwrap().set_len(MAX_SIZE + 1).unwrap();
    let text = Config::from_file(&file).unwrap_err().to_string();
    assert!(text.ends_with("container.json`: larger than 16 MiB"), "{text}");
}

#[test]
fn null_is_read_as_empty() {
    let json = r#"{"mounts": null, "links": null, "devices": null, "namespaces": null,
        "capabilities": null, "networks": null, "routes": null, "cgroups": null,
        "rlimits": null, "additional_groups": null, "uid_mappings": null, "gid_mappings": null,
        "mask_paths": null, "readonly_paths": null, "system_properties": null,
        "seccomp": null}"#;
    assert_eq!(Config::from_json(json.as_bytes()).unwrap(), Config::default());
    let json = r#"{"mounts": [{"premount_cmds": null, "postmount_cmds": [{"path": "x",
        "args": null, "env": null}]}], "cgroups": {"allowed_devices": null,
        "denied_devices": null, "hugetlb_limit": null, "net_prio_ifpriomap": null},
        "seccomp": {"syscalls": null}}"#;
    Config::from_json(json.as_bytes()).unwrap();
}

#[test]
fn relative_rootfs_is_resolved_against_the_directory_of_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let real = directory.path().canonicalize().unwrap();
    let file = real.join("container.json");
    for (rootfs, expected) in [
        ("", real.clone()),
        (".", real.clone()),
        ("rootfs", real.join("rootfs")),
        ("./a/../b/", real.join("b")),
        ("/srv/", PathBuf::from("/srv/")),
    ] {
        fs::write(&file, format!("{{\"rootfs\": \"{rootfs}\"}}")).unwrap();
        let config = Config::from_file(&file).unwrap();
        assert_eq!(config.rootfs.as_os_str(), expected.as_os_str(), "{rootfs}");
    }
    fs::write(&file, "{\"tmpfs_root\": true}").unwrap();
    assert_eq!(Config::from_file(&file).unwrap().rootfs, PathBuf::new());
    let error = Config::from_file(real.join("absent")).unwrap_err();
    assert_eq!(error.code(), Code::SystemError);
    fs::write(&file, "{\n").unwrap();
    let text = Config::from_file(&file).unwrap_err().to_string();
    assert!(text.contains("container.json line 2 column 0`"), "{text}");
}

#[test]
fn samples_are_valid_and_unchanged_by_writing_and_reading() {
    let mut seen = 0;
    for entry in fs::read_dir(sample("")).unwrap() {
        let file = entry.unwrap().path();
        if file.is_dir() {
            continue;
        }
        let config = Config::from_file(&file).unwrap();
        config.validate().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let json = serde_json::to_vec(&config).unwrap();
        assert_eq!(Config::from_json(&json).unwrap(), config);
        seen += 1;
    }
    assert_eq!(seen, 8);
}

#[test]
fn names_are_read_as_numbers() {
    let config = Config::from_file(sample("friendly.json")).unwrap();
    let json = serde_json::to_value(&config).unwrap();
    assert_eq!(json["mounts"][0]["flags"], 14);
    assert_eq!(json["mounts"][1]["data"], "mode=755,size=64k");
    assert_eq!(json["devices"][0]["type"], 99);
    assert_eq!(json["rlimits"][0]["type"], 7);
    assert_eq!(json["namespaces"][1]["type"], "NEWPID");
    assert_eq!(json["capabilities"][0], "CHOWN");
    assert_eq!(json["cgroups"]["memory"], 64 << 20);
    assert_eq!(json["cgroups"]["allowed_devices"][0]["type"], 99);
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
        let _ = Config::from_json(&bytes);
    }

    #[test]
    fn arbitrary_field_values_do_not_panic(field in 0usize..12, value in json_value()) {
        let field = ["mounts", "devices", "namespaces", "capabilities", "rlimits", "cgroups",
            "additional_groups", "system_properties", "seccomp", "rootfs", "networks",
            "uid_mappings"][field];
        let list = serde_json::json!({ field: [value.clone()] }).to_string();
        for json in [serde_json::json!({ field: value }).to_string(), list] {
            if let Ok(config) = Config::from_json(json.as_bytes()) {
                let _ = config.validate();
            }
        }
    }
}

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let scalar = prop_oneof![
        Just(serde_json::Value::Null),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    let key = prop_oneof![
        Just("type"),
        Just("flags"),
        Just("memory"),
        Just("syscalls"),
        Just("file_mode"),
        Just("allowed_devices"),
        Just("args"),
        Just("hard"),
        Just("soft"),
        Just("data"),
    ];
    scalar.prop_recursive(3, 32, 4, move |inner| {
        let entry = (key.clone().prop_map(str::to_owned), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Into::into),
            prop::collection::vec(entry, 0..4)
                .prop_map(|entries| serde_json::Value::Object(entries.into_iter().collect())),
        ]
    })
}
