//! Owns the choice of pools: from where the units of each line are drawn.
//!
//! Must not book anything. A line that names its pool draws on it alone; the others draw on the
//! offered pools in their order, and never on what a line with a name needs. Next: `level.rs`.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::arena::Slot;
use crate::command::Line;
use crate::draft::Refusal;
use crate::ids::{Millis, Units};
use crate::outcome::Outcome;
use crate::state::{Ledger, Piece};

/// What a line needs, with its names looked up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    pub(crate) line_index: u8,
    pub(crate) rack: Slot,
    pub(crate) pool: Option<Slot>,
    pub(crate) units: Units,
}

/// Where units may be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The available units of offered pools.
    ForSale,
    /// For money that came late: the buffer of any pool first, then what is for sale.
    LateMoney,
}

/// What was drawn so far, by pool and by whether from its buffer.
type Drawn = BTreeMap<(Slot, bool), Units>;

impl Ledger {
    /// Looks up the names of all lines: every sku before any pool, as the precedence has it.
    pub(crate) fn needs_of_lines(&self, sale: Slot, lines: &[Line]) -> Result<Vec<Need>, Refusal> {
        let mut needs = Vec::with_capacity(lines.len());
        for (line_index, line) in (0..).zip(lines) {
            let rack = self.rack_named(sale, &line.sku)?;
            needs.push(Need {
                line_index,
                rack,
                pool: None,
                units: line.units,
            });
        }
        for (need, line) in needs.iter_mut().zip(lines) {
            if let Some(pool) = &line.pool {
                need.pool = Some(self.pool_named(need.rack, pool)?);
            }
        }
        Ok(needs)
    }

    /// What a reservation that lost its units needs to have them again.
    pub(crate) fn needs_of(&self, reservation: Slot) -> Vec<Need> {
        let mut needs: Vec<Need> = Vec::new();
        for piece in self.reservations[reservation].pieces.as_slice() {
            let units = piece.standing();
            let line_index = piece.line_index;
            if let Some(need) = needs.iter_mut().find(|need| need.line_index == line_index) {
                need.units += units;
                continue;
            }
            let rack = self.pool_at(piece.pool).rack;
            let pool = piece.is_named.then_some(piece.pool);
            needs.push(Need {
                line_index,
                rack,
                pool,
                units,
            });
        }
        needs
    }

    /// Refuses lines that name a pool which is not offered.
    pub(crate) fn check_offered(&self, needs: &[Need]) -> Result<(), Refusal> {
        for need in needs {
            if need.pool.is_some_and(|pool| !self.pool_at(pool).is_offered) {
                return Err(Refusal::not_allowed("is_offered").on_rack(need.rack));
            }
        }
        Ok(())
    }

    /// The refusal of a need that can't be met now.
    pub(crate) fn sold_out(&self, need: &Need, now: Millis) -> Refusal {
        Refusal::of(Outcome::SoldOut)
            .on_rack(need.rack)
            .until(self.come_back_at(need.rack, now))
    }

    /// Chooses pools for all needs.
    ///
    /// # Errors
    /// The first need that can't be met, in order of line within named lines and then the others.
    pub(crate) fn allocate(&self, needs: &[Need], source: Source) -> Result<Vec<Piece>, Need> {
        let mut pieces = Vec::with_capacity(needs.len());
        let mut drawn = Drawn::new();
        // A named line has no choice, so it goes first: then there is a way whenever one exists.
        let named = needs.iter().filter(|need| need.pool.is_some());
        let free = needs.iter().filter(|need| need.pool.is_none());
        for need in named.chain(free) {
            self.allocate_one(need, source, needs.len() > 1, &mut drawn, &mut pieces)?;
        }
        pieces.sort_by_key(|piece| piece.line_index);
        Ok(pieces)
    }

    fn allocate_one(
        &self,
        need: &Need,
        source: Source,
        is_shared: bool,
        drawn: &mut Drawn,
        pieces: &mut Vec<Piece>,
    ) -> Result<(), Need> {
        let mut missing = need.units;
        let from_buffers: &[bool] = match source {
            Source::ForSale => &[false],
            Source::LateMoney => &[true, false],
        };
        for &is_from_buffer in from_buffers {
            for &pool in &self.rack_at(need.rack).pools {
                let there = self.drawable(need, pool, is_from_buffer);
                // Only lines of one reservation compete here, so one line needs no memory.
                let gone = if is_shared {
                    drawn.get(&(pool, is_from_buffer))
                } else {
                    None
                };
                // A pool that this line may not draw on can have given units to another line.
                let units = missing.min(there - gone.unwrap_or(&0));
                if units <= 0 {
                    continue;
                }
                missing -= units;
                if is_shared {
                    *drawn.entry((pool, is_from_buffer)).or_insert(0) += units;
                }
                pieces.push(need.piece(pool, units, is_from_buffer));
                if missing == 0 {
                    return Ok(());
                }
            }
        }
        Err(*need)
    }

    /// The units of `pool` that a need may draw.
    fn drawable(&self, need: &Need, slot: Slot, is_from_buffer: bool) -> Units {
        let pool = self.pool_at(slot);
        if need.pool.is_some_and(|wanted| wanted != slot) {
            0
        } else if is_from_buffer {
            pool.counters.buffer
        } else if pool.is_offered {
            pool.counters.available
        } else {
            0
        }
    }
}

impl Need {
    fn piece(&self, pool: Slot, units: Units, is_from_buffer: bool) -> Piece {
        Piece {
            pool,
            units: u32::try_from(units).expect("a line has at most a million units"),
            returned: 0,
            given_back: 0,
            line_index: self.line_index,
            is_named: self.pool.is_some(),
            is_from_buffer,
        }
    }
}
