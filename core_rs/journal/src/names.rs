//! Names of the files, and what they say.
//!
//! Numbers have a fixed width, so that sorting names sorts the journal. A name that ends in
//! `.temporary` is work that was not finished; the next opening removes it.

/// Ending of a file that is being made and does not count yet.
pub(crate) const TEMPORARY: &str = ".temporary";

/// Lock file of the owner, which holds its process id. Not part of the journal: `list` leaves it
/// out.
pub(crate) const OWNER: &str = "owner.lock";

/// What the node keeps beside the journal, revisions of its admission policy: not ours, and no
/// stranger either.
pub(crate) const NEIGHBOUR: &str = "policy-";

const SEGMENT: (&str, &str) = ("segment-", ".journal");
const SNAPSHOT: (&str, &str) = ("snapshot-", ".state");

pub(crate) fn segment(number: u32) -> String {
    format!("{}{number:010}{}", SEGMENT.0, SEGMENT.1)
}

pub(crate) fn snapshot(sequence: i64) -> String {
    format!("{}{sequence:019}{}", SNAPSHOT.0, SNAPSHOT.1)
}

pub(crate) fn temporary(name: &str) -> String {
    format!("{name}{TEMPORARY}")
}

pub(crate) fn parse_segment(name: &str) -> Option<u32> {
    let number = between(name, SEGMENT)?.parse().ok()?;
    (number >= 1 && segment(number) == name).then_some(number)
}

pub(crate) fn parse_snapshot(name: &str) -> Option<i64> {
    let sequence = between(name, SNAPSHOT)?.parse().ok()?;
    (sequence >= 1 && snapshot(sequence) == name).then_some(sequence)
}

fn between<'a>(name: &'a str, (start, end): (&str, &str)) -> Option<&'a str> {
    name.strip_prefix(start)?.strip_suffix(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_as_their_numbers() {
        for number in [1, 42, u32::MAX] {
            assert_eq!(Some(number), parse_segment(&segment(number)));
        }
        for sequence in [1, 42, i64::MAX] {
            assert_eq!(Some(sequence), parse_snapshot(&snapshot(sequence)));
        }
    }

    #[test]
    fn names_in_another_spelling_are_not_ours() {
        let strangers = [
            "segment-1.journal",
            "segment-0000000000.journal",
            "segment-0000000001.journal.temporary",
            "segment-+000000001.journal",
            "snapshot-1.state",
            "snapshot--000000000000000001.state",
        ];
        for name in strangers {
            assert_eq!(None, parse_segment(name), "{name}");
            assert_eq!(None, parse_snapshot(name), "{name}");
        }
    }

    #[test]
    fn names_sort_as_their_numbers() {
        assert!(segment(9) < segment(10));
        assert!(snapshot(99) < snapshot(100));
    }
}
