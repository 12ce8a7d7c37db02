//! Owns the proof that the build stops at a declaration it cannot enforce: a request field without
//! a rule, or a rule of a form that it does not know.

#[path = "../build/emit.rs"]
mod emit;
#[path = "../build/pattern.rs"]
mod pattern;
#[path = "../build/rules.rs"]
mod rules;

use std::path::Path;
use std::{env, fs};

/// Emits the checks of a service whose one request has these fields.
fn emit_of(name: &str, fields: &str) -> Result<String, String> {
    let proto = format!(
        r#"
        syntax = "proto3";
        package trial.v1;
        import "buf/validate/validate.proto";
        import "google/protobuf/duration.proto";
        service TrialService {{ rpc Try(TryRequest) returns (TryResponse); }}
        message TryRequest {{ {fields} }}
        message TryResponse {{}}
        "#
    );
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).expect("a folder for tests");
    fs::write(folder.join("trial.proto"), proto).expect("a file for tests");
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let mut compiler = protox::Compiler::new([&folder, &ours]).expect("two folders");
    compiler
        .include_imports(true)
        .open_files(["trial.proto"])
        .expect("a valid proto");
    emit::emit_checks(&compiler.descriptor_pool(), "trial.v1")
}

#[test]
fn a_field_with_a_known_rule_is_checked() {
    let fields =
        r"int64 units = 1 [(buf.validate.field).int64 = {gte: 1, lte: 5}]; bool is_on = 2;";

    let code = emit_of("known", fields).expect("a known rule");

    assert!(code.contains("impl Check for contract::TryRequest"));
    assert!(code.contains(r#"found.number(self.units.into(), "int64", Some(1), Some(5)"#));
    assert!(!code.contains("is_on"));
}

#[test]
fn a_request_field_without_a_rule_stops_the_build() {
    let fields = [
        ("text", "string name = 1;"),
        ("number", "int64 units = 1;"),
        ("list", "repeated string names = 1;"),
        ("map", "map<string, string> labels = 1;"),
        ("span", "google.protobuf.Duration ttl = 1;"),
        ("optional", "optional int32 size = 1;"),
        (
            "item",
            "repeated string names = 1 [(buf.validate.field).repeated.max_items = 3];",
        ),
    ];
    for (name, field) in fields {
        let error = emit_of(name, field).expect_err(field);

        assert!(error.contains("trial.v1.TryRequest."), "{error}");
        assert!(error.contains("needs a"), "{error}");
    }
}

#[test]
fn a_rule_of_an_unknown_form_stops_the_build() {
    let fields = [
        (
            "prefix",
            r#"string name = 1 [(buf.validate.field).string.prefix = "a"];"#,
        ),
        (
            "greater",
            "int64 units = 1 [(buf.validate.field).int64.gt = 1];",
        ),
        (
            "regex",
            r#"string name = 1 [(buf.validate.field).string.pattern = "^a+$"];"#,
        ),
        (
            "unique",
            "repeated int64 n = 1 [(buf.validate.field).repeated = {max_items: 2, unique: true}];",
        ),
        (
            "ignore",
            "int64 n = 1 [(buf.validate.field).ignore = IGNORE_IF_ZERO_VALUE];",
        ),
        (
            "two",
            r#"string s = 1 [(buf.validate.field).string = {pattern: "^[a]{1}$", max_len: 1}];"#,
        ),
        (
            "enum",
            "int64 units = 1 [(buf.validate.field).int64.const = 4];",
        ),
    ];
    for (name, field) in fields {
        let error = emit_of(name, field).expect_err(field);

        assert!(
            error.contains("understood") || error.contains("extend"),
            "{field}: {error}"
        );
    }
}

#[test]
fn a_pattern_is_read_whole_or_not_at_all() {
    let id = pattern::parse("^[A-Za-z0-9._:-]{1,64}$").expect("the contract's own");
    let taken: String = (0..=255_u8)
        .filter(|byte| id.class[usize::from(*byte)])
        .map(char::from)
        .collect();
    let currency = pattern::parse("^([A-Z]{3})?$").expect("the contract's own");

    assert_eq!(
        "-.0123456789:ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz",
        taken
    );
    assert_eq!(
        (1, 64, false),
        (id.bytes_min, id.bytes_max, id.is_empty_fine)
    );
    assert_eq!(
        (3, 3, true),
        (
            currency.bytes_min,
            currency.bytes_max,
            currency.is_empty_fine
        )
    );
    for text in [
        "[a-z]{1,2}",
        "^[a-z]+$",
        "^[^a]{1,2}$",
        r"^[\w]{1,2}$",
        "^[]{1,2}$",
        "^[a]{1,}$",
        "^[a]{1,2}[b]{1}$",
        "^[é]{1}$",
        "^([a]{1})*$",
    ] {
        assert!(pattern::parse(text).is_err(), "{text}");
    }
}
