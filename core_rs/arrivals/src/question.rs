//! What an arrival asked of the door.
//!
//! Owns: the names of one arrival, put together again. Must not: decide. Where next:
//! `simulation.rs`.

use lastunit_admission::{Ask, Call, Chance, SKUS_MAX};

use crate::arrival::Outcome;
use crate::block::RowArrival;

/// One arrival with its names.
pub(crate) struct Question<'a> {
    call: Call<'a>,
    sale: &'a str,
    skus: [&'a str; SKUS_MAX],
    sku_count: usize,
    chance: Chance,
}

impl<'a> Question<'a> {
    /// Finds the names at the places of an arrival: its caller, and of a Reserve its sale and SKUs.
    pub(crate) fn new(names: &'a [Box<str>], places: &[u32], arrival: &RowArrival) -> Self {
        let name = |place: &u32| &*names[*place as usize];
        let mut skus = [""; SKUS_MAX];
        let mut sku_count = 0;
        for (sku, place) in skus.iter_mut().zip(places.iter().skip(2)) {
            *sku = name(place);
            sku_count += 1;
        }
        let is_gone = matches!(
            arrival.outcome,
            Outcome::Hopeless | Outcome::HopelessRefused
        );
        Self {
            call: Call {
                operation: arrival.operation,
                line_count: arrival.line_count,
                caller: name(&places[0]),
            },
            sale: places.get(1).map(name).unwrap_or_default(),
            skus,
            sku_count,
            // What was gone live was gone, whatever the policy.
            chance: if is_gone {
                Chance::Gone
            } else {
                Chance::Possible
            },
        }
    }

    pub(crate) fn is_hopeless(&self) -> bool {
        self.chance == Chance::Gone
    }

    pub(crate) fn ask(&self) -> Ask<'_> {
        Ask {
            call: self.call,
            sale: self.sale,
            skus: &self.skus[..self.sku_count],
            chance: self.chance,
        }
    }
}
