//! Owns the short way of the operations that a rush consists of: Reserve and Confirm, each field at
//! most once, nothing unknown, nothing wrong.
//!
//! Must not decide what is wrong: whatever is not usual is left to the long way (`exchange.rs`),
//! which gives the same for what is. No text is made twice and nothing is checked by a list.

use lastunit_engine::limits::{LINE_COUNT_MAX, LINE_UNITS_MAX};
use lastunit_engine::{Action, Command, Line, Reserve, Text, Units, is_id};

use crate::Method;
use crate::decode::Request;
use crate::exchange::Operation;

/// What a field holds.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Takes a message apart into its mark and the bytes of its operations.
pub(crate) fn split(mut rest: &[u8]) -> Option<(i64, Vec<&[u8]>)> {
    let mut exchange_id = 0;
    let mut operations = Vec::new();
    while !rest.is_empty() {
        match field(&mut rest)? {
            (1, Value::Number(number)) => exchange_id = number.cast_signed(),
            (2, Value::Bytes(operation)) => operations.push(operation),
            _ => return None,
        }
    }
    Some((exchange_id, operations))
}

/// Decodes an operation, if it is a usual one.
pub(crate) fn operation(mut rest: &[u8], caller: &Text) -> Option<Operation> {
    let (number, Value::Bytes(bytes)) = field(&mut rest)? else {
        return None;
    };
    let (method, request_id, action) = match number {
        1 => (Method::Reserve, Text::default(), reserve(bytes)?),
        4 => {
            let (request_id, action) = confirm(bytes)?;
            (Method::Confirm, request_id, action)
        }
        _ => return None,
    };
    let command = Command {
        request_id,
        caller: caller.clone(),
        actor: Text::default(),
        reason: Text::default(),
        action,
    };
    // A second request would replace the first one.
    rest.is_empty().then_some(Operation {
        method,
        request: Request::Command(command),
    })
}

fn reserve(mut rest: &[u8]) -> Option<Action> {
    let (mut reservation_id, mut sale_id, mut person_id) = (None, None, None);
    let mut lines = Vec::new();
    while !rest.is_empty() {
        let (number, Value::Bytes(bytes)) = field(&mut rest)? else {
            return None;
        };
        match number {
            1 => once(&mut reservation_id, id(bytes)?)?,
            2 => once(&mut sale_id, id(bytes)?)?,
            3 => once(&mut person_id, id(bytes)?)?,
            4 if lines.len() < LINE_COUNT_MAX => lines.push(line(bytes)?),
            _ => return None,
        }
    }
    let reserve = Reserve {
        reservation_id: reservation_id?,
        sale_id: sale_id?,
        person_id: person_id?,
        lines,
        ttl: None,
        not_after: None,
    };
    (!reserve.lines.is_empty()).then_some(Action::Reserve(reserve))
}

fn line(mut rest: &[u8]) -> Option<Line> {
    let (mut sku, mut pool, mut units) = (None, None, None);
    while !rest.is_empty() {
        match field(&mut rest)? {
            (1, Value::Bytes(bytes)) => once(&mut sku, id(bytes)?)?,
            (2, Value::Bytes(bytes)) => once(&mut pool, id(bytes)?)?,
            (3, Value::Number(number)) => once(&mut units, Units::try_from(number).ok()?)?,
            _ => return None,
        }
    }
    let units = units.filter(|units| (1..=LINE_UNITS_MAX).contains(units))?;
    let sku = sku?;
    Some(Line { sku, pool, units })
}

fn confirm(mut rest: &[u8]) -> Option<(Text, Action)> {
    let (mut request_id, mut reservation_id) = (None, None);
    while !rest.is_empty() {
        match field(&mut rest)? {
            (1, Value::Bytes(bytes)) => once(&mut request_id, id(bytes)?)?,
            (2, Value::Bytes(bytes)) => once(&mut reservation_id, id(bytes)?)?,
            _ => return None,
        }
    }
    let reservation_id = reservation_id?;
    Some((request_id?, Action::Confirm { reservation_id }))
}

/// Keeps a value, unless there is one already: the last one wins, which is the long way's to say.
fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    if place.is_some() {
        return None;
    }
    *place = Some(value);
    Some(())
}

fn id(bytes: &[u8]) -> Option<Text> {
    let text = std::str::from_utf8(bytes).ok()?;
    is_id(text).then(|| Text::new(text))
}

/// Takes the next field; none if it is cut off or of a kind that no usual message has.
fn field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let key = varint(rest)?;
    let value = match key & 7 {
        0 => Value::Number(varint(rest)?),
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            let (bytes, after) = rest.split_at_checked(length)?;
            *rest = after;
            Value::Bytes(bytes)
        }
        _ => return None,
    };
    Some((key >> 3, value))
}

/// Takes a number of at most nine bytes: the few that need a tenth are not usual.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for (index, byte) in rest.iter().enumerate().take(9) {
        number |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *rest = &rest[index + 1..];
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::contract;
    use crate::exchange::decode_operation;

    /// Small numbers that come again with the same seed.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            usize::try_from(self.0 >> 33).expect("31 bits") % bound
        }

        fn id(&mut self) -> String {
            let length = [0, 1, 5, 23, 24, 36, 64, 65][self.below(8)];
            "aZ09._:-"
                .chars()
                .cycle()
                .skip(self.below(8))
                .take(length)
                .collect()
        }
    }

    fn line(random: &mut Random) -> contract::Line {
        contract::Line {
            sku: random.id(),
            pool: if random.below(2) == 0 {
                String::new()
            } else {
                random.id()
            },
            units: [0, 1, 127, 128, 1_000_000, 1_000_001, -1][random.below(7)],
        }
    }

    fn operation_of(random: &mut Random) -> contract::Operation {
        let request = if random.below(2) == 0 {
            contract::operation::Request::Reserve(contract::ReserveRequest {
                reservation_id: random.id(),
                sale_id: random.id(),
                person_id: random.id(),
                lines: (0..random.below(3)).map(|_| line(random)).collect(),
                ttl: (random.below(8) == 0).then_some(prost_types::Duration {
                    seconds: 1,
                    nanos: 0,
                }),
                not_after_time: None,
            })
        } else {
            contract::operation::Request::Confirm(contract::ConfirmRequest {
                request_id: random.id(),
                reservation_id: random.id(),
            })
        };
        contract::Operation {
            request: Some(request),
        }
    }

    #[test]
    fn the_short_way_gives_what_the_long_way_gives_or_nothing() {
        let seed = std::env::var("LASTUNIT_SEED").map_or(7, |it| it.parse().expect("a number"));
        let mut random = Random(seed);
        let caller = Text::new("caller");
        let mut short_count = 0;
        for round in 0..60_000 {
            let mut bytes = operation_of(&mut random).encode_to_vec();
            // Some as they are, some with one byte changed, one doubled end, or one cut.
            match random.below(4) {
                1 if !bytes.is_empty() => {
                    let at = random.below(bytes.len());
                    bytes[at] = u8::try_from(random.below(256)).expect("is below 256");
                }
                2 => bytes.extend_from_within(random.below(bytes.len())..),
                3 => bytes.truncate(random.below(bytes.len())),
                _ => {}
            }
            let Some(short) = operation(&bytes, &caller) else {
                continue;
            };
            short_count += 1;
            let long = decode_operation(&bytes, "caller");
            assert_eq!(Ok(short), long, "seed {seed}, round {round}: {bytes:?}");
        }
        assert!(short_count > 2_000, "{short_count} went the short way");
    }

    #[test]
    fn a_message_is_split_as_prost_splits_it() {
        let bytes = |count: u8| (0..count).flat_map(|it| [0x12, 1, it]).collect::<Vec<_>>();
        let message = [&[8, 5], &*bytes(3)].concat();
        let (exchange_id, operations) = split(&message).expect("is usual");

        assert_eq!(5, exchange_id);
        assert_eq!(vec![[0], [1], [2]], operations);
        // A field that the contract does not know, and an end in the middle.
        assert_eq!(None, split(&[0x18, 1]));
        assert_eq!(None, split(&[0x12, 3, 0]));
    }
}
