//! The table's verdicts, row by row.

use super::*;

const TABLE: &str = r#"{"rules": [
    {"callers": ["orders"], "methods": ["Reserve", "Confirm"], "sales": ["flash-*", "general"]},
    {"callers": ["orders", "payments"], "methods": ["SettlePayment"], "sales": ["*"]},
    {"callers": ["*"], "methods": ["GetAvailability"], "sales": ["*"]}
]}"#;

fn table() -> Permissions {
    Permissions::from_json(TABLE).expect("the table is valid")
}

#[test]
fn each_row_opens_what_it_names_and_nothing_else() {
    use Subject::{Ledger, Reservation, Sale};
    use Verdict::{Allowed, AskSale, Denied};
    let rows = [
        ("orders", "Reserve", Sale("flash-1"), Allowed),
        ("orders", "Reserve", Sale("general"), Allowed),
        ("orders", "Reserve", Sale("general-2"), Denied(Lack::Sale)),
        ("orders", "Reserve", Ledger, Denied(Lack::Sale)),
        ("orders", "Confirm", Reservation("r"), AskSale),
        ("orders", "SettlePayment", Reservation("r"), Allowed),
        ("orders", "SettlePayment", Ledger, Allowed),
        ("orders", "PutSale", Sale("flash-1"), Denied(Lack::Method)),
        ("payments", "Reserve", Sale("flash-1"), Denied(Lack::Method)),
        (
            "payments",
            "Confirm",
            Reservation("r"),
            Denied(Lack::Method),
        ),
        ("stranger", "GetAvailability", Sale("any"), Allowed),
        ("stranger", "Reserve", Sale("flash-1"), Denied(Lack::Method)),
        ("ORDERS", "Reserve", Sale("flash-1"), Denied(Lack::Method)),
    ];
    let table = table();
    for (caller, method, subject, expected) in rows {
        let found = table.verdict(caller, method, subject);

        assert_eq!(expected, found, "{caller} {method} {subject:?}");
    }
}

#[test]
fn an_empty_table_denies_everybody() {
    let table = Permissions::from_json(r#"{"rules": []}"#).expect("an empty table is valid");
    let found = table.verdict("orders", "GetReservation", Subject::Reservation("r"));

    assert_eq!(Verdict::Denied(Lack::Caller), found);
}

#[test]
fn a_star_stands_for_any_run_of_characters() {
    let rows = [
        ("*", "", true),
        ("*", "anything", true),
        ("a*", "a", true),
        ("a*", "ab", true),
        ("a*", "ba", false),
        ("*a", "ba", true),
        ("*a", "ab", false),
        ("a*a", "a", false),
        ("a*a", "aa", true),
        ("a*b*c", "a-b-b-c", true),
        ("a*b*c", "a-c-b", false),
        ("a**b", "ab", true),
        ("exact", "exact", true),
        ("exact", "exactly", false),
        ("", "", true),
        ("", "x", false),
    ];
    for (pattern, text, expected) in rows {
        assert_eq!(expected, matches(pattern, text), "{pattern} {text}");
    }
}

#[test]
fn a_table_of_another_form_is_refused() {
    let too_many = format!(
        r#"{{"rules": [{}]}}"#,
        vec![r#"{"callers": ["a"], "methods": [], "sales": []}"#; RULE_COUNT_MAX + 1].join(",")
    );
    for text in ["", "{}", r#"{"rules": [{"callers": ["a"]}]}"#, &too_many] {
        assert!(Permissions::from_json(text).is_err(), "{text:.60}");
    }
}
