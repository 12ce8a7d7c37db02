//! Operators, and somebody who tries every command on everything.
//!
//! Owns: administrative commands, and the commands that no good client sends: ids used twice with
//! other content, ids that nobody knows, news of payments that nobody began. Must not: invent money
//! that the provider does not know. Where next: `actors.rs`.

use lastunit_engine::{
    Action, BeginPayment, Command, Disposition, PaymentResult, PutPool, PutSale, ReleaseReason,
    Reserve, Return, SaleState, SettlePayment, StockChange, Text,
};

use crate::server::Asked;
use crate::world::{Happening, Purpose, World};

impl World {
    /// The sale, its pools and its units, before anything goes wrong.
    pub(crate) fn setup(&mut self) -> Vec<Command> {
        let mut commands = Vec::new();
        for sale in 0..self.plan.sales {
            let sale_id = Text::from(format!("sale-{sale}"));
            commands.push(self.signed(Action::PutSale(PutSale {
                sale_id: sale_id.clone(),
                opens_at: None,
                closes_at: None,
                policy: self.plan.policy.clone(),
                expected_revision: Some(0),
            })));
            for sku in 0..self.plan.skus {
                for pool in 0..self.plan.pools {
                    let position = u32::try_from(self.dice.below(3)).unwrap_or(0);
                    let (sku, pool) = (format!("sku-{sku}").into(), format!("pool-{pool}").into());
                    let put = PutPool {
                        sale_id: sale_id.clone(),
                        sku,
                        pool,
                        position,
                        labels: Vec::new(),
                        is_offered: self.dice.permille(850),
                    };
                    let change = StockChange {
                        sale_id: sale_id.clone(),
                        sku: put.sku.clone(),
                        pool: put.pool.clone(),
                        units: self.plan.pool_units,
                        is_buffer: false,
                    };
                    commands.push(self.signed(Action::PutPool(put)));
                    commands.push(self.signed(Action::SupplyStock(change.clone())));
                    if self.dice.permille(400) {
                        let buffer = StockChange {
                            units: self.dice.within(1, 3),
                            is_buffer: true,
                            ..change
                        };
                        commands.push(self.signed(Action::SupplyStock(buffer)));
                    }
                }
            }
        }
        commands
    }

    /// An operator's command, with an id, an actor and a reason.
    pub(crate) fn signed(&mut self, action: Action) -> Command {
        let id = self.fresh();
        Command {
            request_id: format!("admin-{id}").into(),
            caller: Text::default(),
            actor: "operator".into(),
            reason: "simulated".into(),
            action,
        }
    }

    pub(crate) fn operate(&mut self) {
        if self.is_calm {
            return;
        }
        let interval = self.plan.operator_interval * 1_000;
        let span = self.dice.within(interval / 2, interval * 2);
        self.plan_in(span, Happening::Operate);
        let action = self.any_admin();
        let command = self.signed(action);
        self.call(Asked::One(command), 3, Purpose::Nobody);
    }

    fn any_admin(&mut self) -> Action {
        let (sale_id, sku, pool) = (self.any_sale(), self.any_sku(), self.any_pool());
        let units = self.dice.within(1, 4);
        let change = StockChange {
            sale_id: sale_id.clone(),
            sku: sku.clone(),
            pool: pool.clone(),
            units,
            is_buffer: self.dice.permille(400),
        };
        match self.dice.below(20) {
            0..=3 => Action::SupplyStock(change),
            4..=5 => Action::WithdrawStock(change),
            6 => {
                let expected_available = self.available_of(&sale_id, &sku, &pool);
                let available = self.dice.within(0, 6);
                Action::AdjustStock {
                    sale_id,
                    sku,
                    pool,
                    expected_available,
                    available,
                }
            }
            7..=8 => {
                let target_pool = self.any_pool();
                Action::MoveStock {
                    sale_id,
                    sku,
                    source_pool: pool,
                    target_pool,
                    units,
                }
            }
            9 => Action::PourBuffer {
                sale_id,
                sku,
                pool,
                units,
            },
            10..=11 => Action::PutPool(PutPool {
                sale_id,
                sku,
                pool,
                position: u32::try_from(self.dice.below(4)).unwrap_or(0),
                labels: Vec::new(),
                is_offered: self.dice.permille(800),
            }),
            12 => self.any_put_sale(sale_id),
            13..=14 => self.any_sale_state(sale_id),
            15 => self.any_merge(),
            17 => self.any_split(),
            16 => {
                let until = self.wall() + self.dice.within(0, 4_000);
                let is_on = self.dice.permille(600);
                if is_on {
                    self.cover.hit("brake held expiry back");
                }
                Action::SetExpiryBrake {
                    is_on,
                    until: is_on.then_some(until),
                }
            }
            _ => Action::ReleaseUnverified {
                reservation_id: self.any_reservation(),
            },
        }
    }

    fn any_merge(&mut self) -> Action {
        Action::MergePersons {
            source_person_id: format!("person-{}", self.dice.below(self.plan.persons)).into(),
            target_person_id: format!("person-{}", self.dice.below(self.plan.persons)).into(),
        }
    }

    /// Persons that were merged, mostly, some or all of those that count as one.
    fn any_split(&mut self) -> Action {
        let book = &self.server.book;
        let merged: Vec<_> = book.merged.keys().chain(book.merged.values()).collect();
        let names = (0..self.plan.persons).map(|number| format!("person-{number}").into());
        let names: Vec<Text> = names.filter(|it| merged.contains(&it)).collect();
        let is_anybody = names.is_empty() || self.dice.permille(100);
        let first: Text = if is_anybody {
            format!("person-{}", self.dice.below(self.plan.persons)).into()
        } else {
            self.dice.pick(&names).clone()
        };
        let root = self.server.book.root(&first);
        let is_stranger_asked = self.dice.permille(50);
        let mut person_ids = vec![first];
        for name in names {
            let is_with_first = self.server.book.root(&name) == root || is_stranger_asked;
            if is_with_first && name != person_ids[0] && self.dice.permille(400) {
                person_ids.push(name);
            }
        }
        self.cover.hit("split persons");
        Action::SplitPersons { person_ids }
    }

    /// What an operator counted, mostly right.
    fn available_of(&mut self, sale_id: &Text, sku: &Text, pool: &Text) -> i64 {
        let book = &self.server.book;
        let is_known = book.sales.get(sale_id).and_then(|it| it.skus.get(sku));
        let is_known = is_known.is_some_and(|it| it.pools.contains_key(pool));
        if is_known && self.dice.permille(800) {
            self.server.book.available(sale_id, sku, pool)
        } else {
            self.dice.within(0, 5)
        }
    }

    fn any_put_sale(&mut self, sale_id: Text) -> Action {
        let now = self.wall();
        let mut policy = self.plan.policy.clone();
        policy.units_per_person_per_sku_max = *self.dice.pick(&[0, 1, 3]);
        policy.low_level_percent = *self.dice.pick(&[0, 10, 60]);
        Action::PutSale(PutSale {
            sale_id,
            opens_at: self
                .dice
                .permille(300)
                .then(|| now + self.dice.within(-2_000, 3_000)),
            closes_at: self
                .dice
                .permille(300)
                .then(|| now + self.dice.within(500, 20_000)),
            policy,
            expected_revision: self.dice.permille(300).then(|| self.dice.within(1, 3)),
        })
    }

    fn any_sale_state(&mut self, sale_id: Text) -> Action {
        let state = match self.dice.below(20) {
            0..=11 => SaleState::Open,
            12..=14 => SaleState::Paused,
            15..=16 => SaleState::Closed,
            17 => SaleState::Cancelled,
            18 => SaleState::Scheduled,
            _ => SaleState::Archived,
        };
        Action::SetSaleState { sale_id, state }
    }

    fn any_reservation(&mut self) -> Text {
        if self.buyers.is_empty() || self.dice.permille(30) {
            return "nobody".into();
        }
        let index = self.dice.index(self.buyers.len());
        self.buyers[index].reservation_id.clone()
    }

    fn any_attempt(&mut self) -> Option<(Text, Text)> {
        let count = self.provider.attempts.len();
        let index = self.dice.index(count.max(1));
        let (id, money) = self.provider.attempts.iter().nth(index)?;
        Some((id.clone(), money.reservation_id.clone()))
    }

    /// Somebody tries something.
    pub(crate) fn meddle(&mut self) {
        if self.is_calm {
            return;
        }
        let interval = self.plan.monkey_interval * 1_000;
        let span = self.dice.within(interval / 2, interval * 2);
        self.plan_in(span, Happening::Meddle);
        let client = self.dice.index(4);
        let asked = match self.dice.below(20) {
            0..=2 => Asked::Availability(self.any_sale()),
            3..=4 => Asked::Reservation(self.any_reservation()),
            5 => Asked::Audit,
            6 => Asked::Explain(self.any_reservation()),
            7 => return self.pay_unregistered(),
            _ => Asked::One(self.any_command()),
        };
        self.call(asked, client, Purpose::Nobody);
    }

    /// Money for an attempt that the ledger was never told of.
    fn pay_unregistered(&mut self) {
        let reservation_id = self.any_reservation();
        if !self.server.book.reservations.contains_key(&reservation_id) {
            return;
        }
        let attempt_id = Text::from(format!("stray-{}", self.fresh()));
        self.provider.create(&attempt_id, &reservation_id);
        self.decide_payment(&attempt_id, PaymentResult::Succeeded);
    }

    /// Any command about anything; sometimes under an id that is taken.
    pub(crate) fn any_command(&mut self) -> Command {
        let reservation_id = self.any_reservation();
        let extension = self.dice.within(1, self.plan.policy.max_life + 100);
        let action = match self.dice.below(12) {
            0..=1 => Action::Confirm { reservation_id },
            2 => Action::Release {
                reservation_id,
                release_reason: ReleaseReason::Operator,
            },
            3..=4 => Action::Extend {
                reservation_id,
                extension,
            },
            5 => Action::Return(Return {
                reservation_id,
                sku: self.any_sku(),
                pool: self.dice.permille(300).then(|| self.any_pool()),
                units: self.dice.within(1, 5),
                disposition: *self.dice.pick(Disposition::ALL),
                give_limit_back: None,
            }),
            6 => return self.twisted_reserve(),
            7..=8 => return self.twisted_begin(),
            9 => return self.stray_news(),
            10 => {
                let attempt_id = self.any_attempt().map_or("nothing".into(), |it| it.0);
                Action::RecordRefund {
                    reservation_id,
                    attempt_id,
                    evidence: "bank".into(),
                }
            }
            _ => Action::Release {
                reservation_id,
                release_reason: ReleaseReason::Client,
            },
        };
        let mut command = self.command(action);
        if self.dice.permille(150) {
            let ids: Vec<_> = self.server.book.requests.keys().cloned().collect();
            if !ids.is_empty() {
                command.request_id = self.dice.pick(&ids).clone();
            }
        }
        command
    }

    /// A reservation that exists, asked for again with or without a change.
    fn twisted_reserve(&mut self) -> Command {
        let id = self.any_reservation();
        let known = self
            .server
            .book
            .reservations
            .get(&id)
            .map(|it| it.asked.clone());
        let mut reserve = known.unwrap_or_else(|| Reserve {
            reservation_id: id,
            sale_id: "sale-0".into(),
            person_id: "person-0".into(),
            lines: vec![lastunit_engine::Line {
                sku: "sku-0".into(),
                pool: None,
                units: 1,
            }],
            ttl: None,
            not_after: Some(1),
        });
        match self.dice.below(5) {
            0 => reserve.person_id = "somebody-else".into(),
            1 => reserve.lines[0].units += 1,
            2 => reserve.ttl = Some(reserve.ttl.unwrap_or(0) + 1),
            _ => {}
        }
        Command::internal(Action::Reserve(reserve))
    }

    /// An attempt that exists, begun again with or without a change, or on another reservation.
    fn twisted_begin(&mut self) -> Command {
        let (attempt_id, owner) = self
            .any_attempt()
            .unwrap_or(("none".into(), "nobody".into()));
        let known = self
            .server
            .book
            .attempts
            .get(&attempt_id)
            .and_then(|it| it.begun.clone());
        let mut begin = match known.map(|it| it.action) {
            Some(Action::BeginPayment(begin)) => begin,
            // What the ledger does not know is not begun here: the provider would not know why.
            _ => BeginPayment {
                reservation_id: "nobody".into(),
                attempt_id,
                provider: None,
                amount_minor: None,
                currency: None,
            },
        };
        match self.dice.below(4) {
            0 if begin.reservation_id == owner => begin.reservation_id = "nobody".into(),
            1 => begin.amount_minor = Some(99),
            _ => {}
        }
        Command::internal(Action::BeginPayment(begin))
    }

    /// News that says nothing new: a failure of an attempt that nobody knows, or of another's.
    fn stray_news(&mut self) -> Command {
        let reservation_id = self.any_reservation();
        let known = self.any_attempt();
        let attempt_id = match known {
            Some((id, owner)) if owner != reservation_id && self.dice.permille(500) => id,
            _ => "stray".into(),
        };
        let settle = SettlePayment {
            reservation_id,
            attempt_id,
            payment_result: PaymentResult::Failed,
            occurred_at: None,
            evidence: Text::default(),
        };
        self.command(Action::SettlePayment(settle))
    }
}
