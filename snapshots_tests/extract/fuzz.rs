//! The fuzz target's check on its own seeds, damaged at random: a fuzzer for machines that have none.
//! `CHPIPE_FUZZ_ROUNDS` makes it go on for longer.

use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

#[path = "../../fuzz/check.rs"]
mod check;

/// Pieces that change what a document means.
const PIECES: [&str; 16] = [
    "null",
    "\"\"",
    "\"N\"",
    "{}",
    "[]",
    "[[",
    "}",
    "]",
    ",",
    ":",
    "\"Laps\":[{}],",
    "-1",
    "1e999",
    "\"\\ud800\"",
    "\\u0000",
    "\"99999\"",
];

fn mutate(random: &mut StdRng, seed: &[u8], other: &[u8]) -> Vec<u8> {
    let mut data = seed.to_vec();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(1..=data.len());
        let end = random.random_range(at..=data.len().min(at + 40));
        match random.random_range(0..7) {
            0 => data.truncate(at),
            1 => drop(data.drain(at..end)),
            2 => data.splice(at..at, PIECES.choose(random).unwrap().bytes()).for_each(drop),
            3 => data.splice(at..end, PIECES.choose(random).unwrap().bytes()).for_each(drop),
            4 => {
                let copy = data[at..end].to_vec();
                data.splice(at..at, copy).for_each(drop);
            }
            5 => {
                let from = random.random_range(1..=other.len());
                data.splice(at..end, other[from..].iter().copied().take(60)).for_each(drop);
            }
            _ => {
                if let Some(byte) = data.get_mut(at) {
                    *byte = random.random();
                }
            }
        }
    }
    data
}

/// Damaged pages of every endpoint are refused or read, and what is read keeps every rule.
#[test]
fn damaged_pages_keep_the_rules() {
    let folder = crate::harness::repository().join("fuzz/seeds/page_parser");
    let mut names: Vec<_> = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let seeds: Vec<Vec<u8>> = names.iter().map(|path| fs_err::read(path).unwrap()).collect();
    assert_eq!(seeds.len(), 13);
    for seed in &seeds {
        check::check(seed);
    }
    let rounds = std::env::var("CHPIPE_FUZZ_ROUNDS").map_or(20_000, |rounds| rounds.parse().unwrap());
    let mut random = StdRng::seed_from_u64(rounds);
    for _ in 0..rounds {
        let (seed, other) = (seeds.choose(&mut random).unwrap(), seeds.choose(&mut random).unwrap());
        let data = mutate(&mut random, seed, other);
        if std::panic::catch_unwind(|| check::check(&data)).is_err() {
            panic!("this input breaks a rule: {}", String::from_utf8_lossy(&data));
        }
    }
}
