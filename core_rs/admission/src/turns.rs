//! Whose turn it is: strict order of lanes, with a share that no lane above can take away.
//!
//! Owns: the choice among lanes that have work waiting. Must not: hold the work. Where next:
//! `queue.rs`.

use crate::policy::Lane;

/// A whole, in thousandths.
const WHOLE: u32 = 1_000;
/// Most of the turns that may be promised below the first lane, in thousandths: what is strictly
/// first must stay first.
pub const SHARE_MAX: u32 = 500;

/// Turns of the four lanes.
///
/// The first lane with work waiting is served, but a lane with a share is owed that part of the
/// turns during which it waits. What it is owed is served before the lanes above, and never saved
/// up past one turn: a lane that had nothing to do has no claim on later.
#[derive(Clone, Debug)]
pub struct Turns {
    shares: [u32; 4],
    owed: [u32; 4],
}

impl Turns {
    /// Starts with shares in thousandths, in the order of [`Lane::ALL`]; 0 is no promise. Shares
    /// that add up to more than [`SHARE_MAX`] are cut in the order of the lanes.
    #[must_use]
    pub fn new(shares: [u32; 4]) -> Self {
        let mut left = SHARE_MAX;
        let shares = shares.map(|share| {
            let share = share.min(left);
            left -= share;
            share
        });
        Self {
            shares,
            owed: [0; 4],
        }
    }

    /// Chooses a lane among those with work waiting, in the order of [`Lane::ALL`]; None if there
    /// is none.
    pub fn next(&mut self, is_waiting: [bool; 4]) -> Option<Lane> {
        let first = Lane::ALL
            .into_iter()
            .find(|lane| is_waiting[lane.index()])?;
        for lane in Lane::ALL {
            let at = lane.index();
            self.owed[at] = if is_waiting[at] {
                (self.owed[at] + self.shares[at]).min(2 * WHOLE)
            } else {
                0
            };
        }
        let owed = |lane: &Lane| self.owed[lane.index()] >= WHOLE;
        let lane = Lane::ALL.into_iter().find(owed).unwrap_or(first);
        self.owed[lane.index()] = self.owed[lane.index()].saturating_sub(WHOLE);
        Some(lane)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARES: [u32; 4] = [0, 0, 200, 50];

    fn count(turns: &mut Turns, is_waiting: [bool; 4], rounds: usize) -> [usize; 4] {
        let mut served = [0; 4];
        for _ in 0..rounds {
            let lane = turns.next(is_waiting).expect("work waits");
            assert!(is_waiting[lane.index()], "only a lane with work is served");
            served[lane.index()] += 1;
        }
        served
    }

    #[test]
    fn lanes_below_get_their_share_and_the_first_lane_the_rest() {
        let served = count(&mut Turns::new(SHARES), [false, true, true, true], 10_000);

        // The last turn that is owed to reads comes with the next round.
        assert_eq!([0, 7_501, 2_000, 499], served);
    }

    #[test]
    fn without_shares_the_order_is_strict() {
        let served = count(&mut Turns::new([0; 4]), [true; 4], 100);

        assert_eq!([100, 0, 0, 0], served);
    }

    #[test]
    fn reads_never_wait_longer_than_their_share_promises() {
        let mut turns = Turns::new(SHARES);
        let mut since_read = 0;
        for _ in 0..1_000 {
            since_read += 1;
            if turns.next([true; 4]) == Some(Lane::Read) {
                since_read = 0;
            }

            // One in twenty is owed, and a lane above may be owed a turn at the same time.
            assert!(since_read <= 21);
        }
    }

    #[test]
    fn a_lane_that_was_idle_saves_nothing_up() {
        let mut turns = Turns::new(SHARES);
        count(&mut turns, [false, true, false, false], 10_000);

        assert_eq!(
            [0, 19, 0, 0],
            count(&mut turns, [false, true, false, true], 19)
        );
    }

    #[test]
    fn shares_past_the_most_are_cut() {
        let served = count(&mut Turns::new([0, 0, 400, 400]), [true; 4], 1_000);

        assert_eq!([501, 0, 400, 99], served);
    }

    #[test]
    fn nothing_waiting_is_nobodys_turn() {
        assert_eq!(None, Turns::new(SHARES).next([false; 4]));
    }
}
