//! Histories of the ledger: each few bytes are a command, a step of time, or a crash.
//!
//! What must hold after each command: deciding changes nothing and is a function; the audit holds;
//! only what is done leaves events; a repeat has the first answer and no effect. At the end and at
//! each crash: the state is the fold of its events, through the journal's bytes and the snapshot's.

use lastunit_engine::{
    Action, BeginPayment, Command, Disposition, Event, Ledger, Line, Millis, Outcome,
    PaymentResult, PutPool, PutSale, ReleaseReason, Reserve, Return, SalePolicy, SaleState,
    SettlePayment, StockChange, Text,
};
use lastunit_wire::{decode_record, encode_record};

use crate::draw::Draw;

/// More makes an input slow and finds nothing that this many do not.
const STEPS_MAX: usize = 400;
/// Due commands run at once at most; what is left runs with the next step.
const DUE_MAX: usize = 64;

const SALES: [&str; 2] = ["s", "t"];
const SKUS: [&str; 2] = ["a", "b"];
const POOLS: [&str; 3] = ["x", "y", "z"];
const PERSONS: [&str; 4] = ["p1", "p2", "p3", "p4"];
const RESERVATIONS: [&str; 8] = ["r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8"];
const ATTEMPTS: [&str; 4] = ["1", "2", "3", "4"];

/// A ledger, the records of its journal, and its clock.
pub(crate) struct World {
    pub(crate) ledger: Ledger,
    records: Vec<Vec<u8>>,
    now: Millis,
    request_count: u32,
}

impl World {
    fn new() -> Self {
        Self {
            ledger: Ledger::new(),
            records: Vec::new(),
            now: 1_000,
            request_count: 0,
        }
    }

    fn run(&mut self, command: &Command) {
        let before = (self.ledger.sequence(), self.ledger.time());
        let decision = self.ledger.decide(command, self.now);
        assert_eq!(
            decision,
            self.ledger.decide(command, self.now),
            "deciding is a function"
        );
        assert_eq!(before, (self.ledger.sequence(), self.ledger.time()));
        let is_done = decision.reply.outcome == Outcome::Ok && !decision.reply.replayed;
        assert_eq!(
            is_done,
            !decision.events.is_empty(),
            "only what is done leaves events"
        );
        if !is_done {
            return;
        }
        self.append(&decision.events);
        let audit = self.ledger.audit();
        assert!(audit.holds(), "after {command:?}: {:#?}", audit.findings);
        self.check_repeat(command, decision.reply);
    }

    fn append(&mut self, events: &[Event]) {
        let record = encode_record(events);
        let read = decode_record(&record).expect("the journal reads what was written");
        assert_eq!(events, read, "events survive the journal");
        for event in &read {
            self.ledger.apply(event);
        }
        self.records.push(record);
    }

    fn check_repeat(&self, command: &Command, mut first: lastunit_engine::Reply) {
        let is_entity = matches!(command.action, Action::Reserve(_) | Action::BeginPayment(_));
        if command.request_id.is_empty() && !is_entity {
            return;
        }
        let again = self.ledger.decide(command, self.now);
        first.replayed = true;
        assert_eq!(first, again.reply, "a repeat gets the first answer");
        assert!(again.events.is_empty(), "a repeat has no effect");
    }

    fn run_due(&mut self) {
        for command in self.ledger.due(self.now, DUE_MAX) {
            self.run(&command);
        }
    }

    /// What a start after a crash does, with the snapshot and without.
    fn check_recovery(&self) {
        let mut folded = Ledger::new();
        for record in &self.records {
            for event in decode_record(record).expect("a record of ours") {
                folded.apply(&event);
            }
        }
        let bytes = self.ledger.to_snapshot();
        assert!(
            bytes == folded.to_snapshot(),
            "the state is the fold of its events"
        );
        let restored = Ledger::from_snapshot(&bytes).expect("a snapshot reads back");
        assert!(
            bytes == restored.to_snapshot(),
            "a snapshot is the whole state"
        );
        assert_eq!(self.ledger.next_due(), restored.next_due());
        assert_eq!(
            self.ledger.due(self.now, DUE_MAX),
            restored.due(self.now, DUE_MAX)
        );
    }

    fn fresh_request(&mut self) -> Text {
        self.request_count += 1;
        format!("q{}", self.request_count).into()
    }
}

pub(crate) fn run(data: &[u8]) {
    let _ = play(data);
}

/// Plays an input as a history and gives the world at its end.
pub(crate) fn play(data: &[u8]) -> World {
    let mut draw = Draw::new(data);
    let mut world = World::new();
    open_sales(&mut draw, &mut world);
    for _ in 0..STEPS_MAX {
        if draw.is_empty() {
            break;
        }
        step(&mut draw, &mut world);
    }
    world.check_recovery();
    world
}

/// Every history starts with stock: an input that only meets unknown ids would prove little.
fn open_sales(draw: &mut Draw<'_>, world: &mut World) {
    for sale_id in SALES {
        let put = put_sale(draw, sale_id, world.now);
        let request = world.fresh_request();
        world.run(&admin(&request, put));
        for sku in SKUS {
            for (position, pool) in (0..).zip(POOLS) {
                let request = world.fresh_request();
                world.run(&admin(
                    &request,
                    Action::PutPool(PutPool {
                        sale_id: sale_id.into(),
                        sku: sku.into(),
                        pool: pool.into(),
                        position,
                        labels: Vec::new(),
                        is_offered: pool != "z",
                    }),
                ));
                let request = world.fresh_request();
                let supply = stock_change(sale_id, sku, pool, 1 + i64::from(draw.few(4)), false);
                world.run(&admin(&request, Action::SupplyStock(supply)));
            }
        }
    }
}

fn step(draw: &mut Draw<'_>, world: &mut World) {
    match draw.below(16) {
        0 => {
            let step = match draw.below(3) {
                0 => i64::from(draw.byte()),
                1 => i64::from(draw.short()),
                _ => i64::from(draw.short()) * 1_000,
            };
            world.now += step;
            world.run_due();
        }
        1 if draw.is_one_in(8) => world.check_recovery(),
        1..=3 => {
            let request = world.fresh_request();
            let action = stock_action(draw, world.now);
            world.run(&admin(&request, action));
        }
        _ => {
            // Some ids come again on purpose: with the same content, or with another.
            let is_repeat = draw.is_one_in(4);
            let request = world.fresh_request();
            let request = if is_repeat { "again".into() } else { request };
            let action = shop_action(draw, world.now);
            world.run(&Command::from_caller(&request, "shop", action));
        }
    }
}

fn admin(request_id: &Text, action: Action) -> Command {
    Command {
        actor: "ann".into(),
        reason: "because".into(),
        ..Command::from_caller(request_id, "desk", action)
    }
}

fn put_sale(draw: &mut Draw<'_>, sale_id: &str, now: Millis) -> Action {
    let opens_at = draw.is_one_in(4).then(|| now + i64::from(draw.short()));
    let closes_at = draw
        .is_one_in(4)
        .then(|| now + 100_000 + i64::from(draw.short()) * 100);
    Action::PutSale(PutSale {
        sale_id: sale_id.into(),
        opens_at,
        closes_at,
        policy: SalePolicy {
            reservation_ttl: 1 + i64::from(draw.short()) * 20,
            settle_by: 1 + i64::from(draw.short()) * 20,
            retry_grace: i64::from(draw.short()),
            max_life: 1 + i64::from(draw.short()) * 60,
            units_per_person_per_sku_max: i64::from(draw.few(4)),
            units_per_person_max: i64::from(draw.few(6)),
            unpaid_reservations_per_person_max: u32::from(draw.few(4)),
            attempts_per_reservation_max: 1 + u32::from(draw.few(4)),
            low_level_percent: u32::from(draw.few(101)),
            is_unverified_release_allowed: draw.is_one_in(2),
            expiry_brake_lag: i64::from(draw.short()) * 10,
            does_return_give_limit_back: draw.is_one_in(2),
            does_forget_while_open: draw.is_one_in(2),
            forget_after: 1 + i64::from(draw.short()) * 10,
        },
        expected_revision: None,
    })
}

fn stock_change(sale_id: &str, sku: &str, pool: &str, units: i64, is_buffer: bool) -> StockChange {
    StockChange {
        sale_id: sale_id.into(),
        sku: sku.into(),
        pool: pool.into(),
        units,
        is_buffer,
    }
}

fn stock_action(draw: &mut Draw<'_>, now: Millis) -> Action {
    let sale_id: Text = draw.pick(&SALES).into();
    let (sku, pool): (Text, Text) = (draw.pick(&SKUS).into(), draw.pick(&POOLS).into());
    let units = 1 + i64::from(draw.few(4));
    let change = stock_change(&sale_id, &sku, &pool, units, draw.is_one_in(2));
    match draw.below(12) {
        0 | 1 => Action::SupplyStock(change),
        2 => Action::WithdrawStock(change),
        3 => Action::AdjustStock {
            sale_id,
            sku,
            pool,
            expected_available: i64::from(draw.few(4)),
            available: i64::from(draw.few(6)),
        },
        4 => Action::MoveStock {
            sale_id,
            sku,
            source_pool: pool,
            target_pool: draw.pick(&POOLS).into(),
            units,
        },
        5 => Action::PourBuffer {
            sale_id,
            sku,
            pool,
            units,
        },
        6 => Action::SetSaleState {
            sale_id,
            state: draw.pick(SaleState::ALL),
        },
        7 => Action::MergePersons {
            source_person_id: draw.pick(&PERSONS).into(),
            target_person_id: draw.pick(&PERSONS).into(),
        },
        8 => Action::SetExpiryBrake {
            is_on: draw.is_one_in(2),
            until: draw.is_one_in(2).then(|| now + i64::from(draw.short())),
        },
        9 => Action::ReleaseUnverified {
            reservation_id: draw.pick(&RESERVATIONS).into(),
        },
        10 => split(draw),
        _ => put_sale(draw, &sale_id, now),
    }
}

/// Some persons from one on, so that a few of them are often together.
fn split(draw: &mut Draw<'_>) -> Action {
    let (first, count) = (draw.below(PERSONS.len()), 1 + draw.below(2));
    let from_first = PERSONS.iter().cycle().skip(first);
    Action::SplitPersons {
        person_ids: from_first.take(count).map(|it| Text::from(*it)).collect(),
    }
}

fn shop_action(draw: &mut Draw<'_>, now: Millis) -> Action {
    let reservation_id: Text = draw.pick(&RESERVATIONS).into();
    // Mostly attempts of the reservation's own, some of another's.
    let owner = if draw.is_one_in(16) {
        draw.pick(&RESERVATIONS)
    } else {
        &reservation_id
    };
    let attempt_id: Text = format!("{owner}:{}", draw.pick(&ATTEMPTS)).into();
    match draw.below(16) {
        0..=4 => reserve(draw, reservation_id, now),
        5..=7 => Action::BeginPayment(BeginPayment {
            reservation_id,
            attempt_id,
            provider: Some("sandbox".into()),
            amount_minor: None,
            currency: None,
        }),
        8..=10 => Action::SettlePayment(SettlePayment {
            reservation_id,
            attempt_id,
            payment_result: draw.pick(PaymentResult::ALL),
            occurred_at: draw
                .is_one_in(2)
                .then(|| (now - i64::from(draw.short())).max(0)),
            evidence: "e".into(),
        }),
        11 => Action::Confirm { reservation_id },
        12 => Action::Release {
            reservation_id,
            release_reason: draw.pick(&[ReleaseReason::Client, ReleaseReason::Operator]),
        },
        13 => Action::Extend {
            reservation_id,
            extension: 1 + i64::from(draw.short()) * 20,
        },
        14 => Action::Return(Return {
            reservation_id,
            sku: draw.pick(&SKUS).into(),
            pool: draw.is_one_in(2).then(|| draw.pick(&POOLS).into()),
            units: 1 + i64::from(draw.few(3)),
            disposition: draw.pick(Disposition::ALL),
            give_limit_back: draw.is_one_in(3).then(|| draw.is_one_in(2)),
        }),
        _ => Action::RecordRefund {
            reservation_id,
            attempt_id,
            evidence: "e".into(),
        },
    }
}

fn reserve(draw: &mut Draw<'_>, reservation_id: Text, now: Millis) -> Action {
    let sale_id = draw.pick(&SALES).into();
    let person_id = draw.pick(&PERSONS).into();
    let line_count = 1 + draw.below(3);
    let line = |draw: &mut Draw<'_>| Line {
        sku: draw.pick(&SKUS).into(),
        pool: draw.is_one_in(3).then(|| draw.pick(&POOLS).into()),
        units: 1 + i64::from(draw.few(3)),
    };
    Action::Reserve(Reserve {
        reservation_id,
        sale_id,
        person_id,
        lines: (0..line_count).map(|_| line(draw)).collect(),
        ttl: draw.is_one_in(4).then(|| 1 + i64::from(draw.short()) * 10),
        not_after: draw.is_one_in(8).then(|| now + i64::from(draw.byte())),
    })
}

/// Bytes from a seed; a long history meets most of the rules.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = lastunit_journal::testing::Random::new(seed);
    (0..length)
        .map(|_| random.next_u64().to_le_bytes()[0])
        .collect()
}

/// Records of a history, one of each length.
pub(crate) fn example_records() -> Vec<Vec<u8>> {
    let mut records = play(&noise(7, 3_000)).records;
    records.sort_by_key(Vec::len);
    records.dedup_by_key(|record| record.len());
    records
}

pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let seed = |number: u64| (format!("noise-{number}"), noise(number, 600));
    (1..=4).map(seed).collect()
}
