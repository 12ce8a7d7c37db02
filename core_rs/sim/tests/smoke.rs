//! A few hundred lives in every test run; `make sim` has the other tens of thousands.

use lastunit_sim::{Cover, live};

/// Seeds in the everyday run; a debug build lives through some ten a second.
const SEEDS: u64 = 60;

#[test]
fn first_seeds_keep_every_promise() {
    let mut cover = Cover::default();
    for seed in 1..=SEEDS {
        let life = live(seed, false);

        assert_eq!(None, life.violation, "seed {seed}");
        cover.merge(&life.cover);
    }

    for name in [
        "crash power cut",
        "settled in liveness mode",
        "row 9",
        "row 17",
    ] {
        assert!(cover.count(name) > 0, "{name} was never met");
    }
}

#[test]
fn one_seed_lives_the_same_life_twice() {
    for seed in [7, 8, 9] {
        assert_eq!(
            live(seed, false).digest,
            live(seed, false).digest,
            "seed {seed}"
        );
    }
}
