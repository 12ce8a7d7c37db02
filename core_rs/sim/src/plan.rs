//! What one seed is about: the sale, the people, and what goes wrong how often.
//!
//! Owns: the drawing of a scenario from a seed. Most seeds have a few kinds of fault, so that each
//! is also met without the others. Must not: change after the draw. Where next: `world.rs`.

use std::path::PathBuf;

use lastunit_engine::{Millis, SalePolicy};
use lastunit_node::NodeSettings;

use crate::dice::Dice;

/// How the disk may betray.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Betrayal {
    /// It keeps its word: what was synced is there.
    None,
    /// From some sync on it says that it synced and does not.
    Lie,
    /// Bits flip while the node is down.
    Flip,
}

#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own, and none excludes another"
)]
pub(crate) struct Plan {
    pub(crate) sales: usize,
    pub(crate) skus: usize,
    pub(crate) pools: usize,
    pub(crate) pool_units: i64,
    pub(crate) buyers: usize,
    pub(crate) persons: u64,
    pub(crate) policy: SalePolicy,
    /// How long things go wrong, in ms; then everything settles.
    pub(crate) duration: Millis,
    pub(crate) loss_permille: u64,
    pub(crate) double_permille: u64,
    pub(crate) delay_permille: u64,
    /// Mean time between crashes and other faults of the machine, in ms.
    pub(crate) fault_interval: Millis,
    pub(crate) has_disk_errors: bool,
    pub(crate) has_full_disk: bool,
    pub(crate) has_read_errors: bool,
    pub(crate) has_clock_steps: bool,
    pub(crate) betrayal: Betrayal,
    pub(crate) news_loss_permille: u64,
    pub(crate) late_permille: u64,
    pub(crate) monkey_interval: Millis,
    pub(crate) operator_interval: Millis,
    pub(crate) batch_permille: u64,
    pub(crate) settings: NodeSettings,
}

impl Plan {
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        let policy = policy(dice);
        let betrayal = match dice.below(10) {
            0 => Betrayal::Lie,
            1 => Betrayal::Flip,
            _ => Betrayal::None,
        };
        let buyers = dice.within(12, 48);
        let is_scarce = dice.permille(700);
        Self {
            sales: 1 + dice.index(2),
            skus: 1 + dice.index(3),
            pools: 1 + dice.index(3),
            pool_units: if is_scarce {
                dice.within(1, 6)
            } else {
                dice.within(20, 80)
            },
            buyers: usize::try_from(buyers).unwrap_or(12),
            persons: dice.within(3, 30).unsigned_abs(),
            policy,
            duration: dice.within(8_000, 30_000),
            loss_permille: *dice.pick(&[0, 20, 100, 250]),
            double_permille: *dice.pick(&[0, 50, 100, 300]),
            delay_permille: *dice.pick(&[0, 20, 100]),
            fault_interval: *dice.pick(&[1_500, 3_000, 6_000, 100_000]),
            has_disk_errors: dice.permille(400),
            has_full_disk: dice.permille(200),
            has_read_errors: dice.permille(200),
            has_clock_steps: dice.permille(300),
            betrayal,
            news_loss_permille: *dice.pick(&[0, 100, 300]),
            late_permille: *dice.pick(&[50, 200, 500]),
            monkey_interval: *dice.pick(&[150, 400, 1_500]),
            operator_interval: *dice.pick(&[300, 1_000, 4_000]),
            batch_permille: *dice.pick(&[0, 100, 400]),
            settings: settings(dice),
        }
    }
}

fn policy(dice: &mut Dice) -> SalePolicy {
    let max_life = dice.within(3_000, 20_000);
    SalePolicy {
        reservation_ttl: dice.within(500, 8_000),
        settle_by: dice.within(500, 9_000),
        retry_grace: dice.within(0, 3_000),
        max_life,
        units_per_person_per_sku_max: *dice.pick(&[0, 0, 2, 5]),
        units_per_person_max: *dice.pick(&[0, 0, 3, 8]),
        unpaid_reservations_per_person_max: *dice.pick(&[0, 1, 1, 2]),
        attempts_per_reservation_max: *dice.pick(&[1, 2, 4, 4]),
        low_level_percent: *dice.pick(&[0, 10, 50, 100]),
        is_unverified_release_allowed: dice.permille(500),
        expiry_brake_lag: *dice.pick(&[0, 2_000, 60_000, 60_000]),
        does_return_give_limit_back: dice.permille(500),
        ..SalePolicy::default()
    }
}

fn settings(dice: &mut Dice) -> NodeSettings {
    let mut settings = NodeSettings::new(PathBuf::new());
    let segment_bytes: u32 = *dice.pick(&[4_096, 8_192, 16_384, 65_536]);
    settings.segment_bytes = segment_bytes;
    settings.kept_back_bytes = u64::from(segment_bytes) * dice.below(4);
    settings.snapshot_events = dice.within(20, 400);
    if dice.permille(400) {
        // Old segments go as soon as recovery can do without them.
        settings.history_bytes_max = u64::from(segment_bytes) * dice.below(6);
    }
    settings.timer_step_limit = *dice.pick(&[1, 3, 256]);
    settings.batch_chunk_operations = *dice.pick(&[1, 3, 64]);
    settings
}
