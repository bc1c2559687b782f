//! Numbers that look random and follow from a seed and a path alone, on every machine: SplitMix64, and only arithmetic
//! that every processor rounds alike. <https://prng.di.unimi.it/splitmix64.c>

/// A sequence of its own for each thing that is made up, so that making up one more changes no other.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    /// The sequence of `path` under `seed`.
    pub(super) fn of(seed: u64, path: &[u64]) -> Self {
        let mut state = Self(seed ^ 0x6a09_e667_f3bc_c908);
        for &step in path {
            let mixed = state.next();
            state = Self(mixed ^ step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
        state.next();
        state
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to 1, without 1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// `low` to `high`, both included.
    pub(super) fn between(&mut self, low: i64, high: i64) -> i64 {
        let span = u128::from(high.abs_diff(low)) + 1;
        let offset = (u128::from(self.next()) * span) >> 64;
        low + i64::try_from(offset).unwrap_or(0)
    }

    /// An index below `length`; 0 for an empty list.
    pub(super) fn index(&mut self, length: usize) -> usize {
        usize::try_from((u128::from(self.next()) * length as u128) >> 64).unwrap_or(0)
    }

    pub(super) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.index(items.len())]
    }

    /// About normal, with mean 0 and deviation 1, from -3.5 to 3.5: four 16-bit numbers of one step.
    pub(super) fn bell(&mut self) -> f64 {
        let bits = self.next();
        let sum = (bits & 0xffff) + ((bits >> 16) & 0xffff) + ((bits >> 32) & 0xffff) + (bits >> 48);
        (sum as f64 / 65536.0 - 2.0) * 1.732
    }

    /// Mixes a list up.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            let other = self.index(end + 1);
            items.swap(end, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_fixed_and_differ_by_path() {
        assert_eq!(Random::of(7, &[1950, 3]).next(), Random::of(7, &[1950, 3]).next());
        assert_ne!(Random::of(7, &[1950, 3]).next(), Random::of(7, &[3, 1950]).next());
        assert_ne!(Random::of(7, &[1]).next(), Random::of(8, &[1]).next());
        // A change here changes every simulated byte.
        assert_eq!(Random::of(7, &[1950, 3]).next(), 5_837_184_626_241_550_393);
    }

    #[test]
    fn numbers_stay_in_their_ranges() {
        let mut random = Random::of(1, &[]);
        let mut sum = 0.0;
        for _ in 0..10_000 {
            assert!((3..=9).contains(&random.between(3, 9)));
            assert!(random.index(5) < 5);
            let bell = random.bell();
            assert!(bell.abs() < 3.6);
            sum += bell;
        }
        assert!((sum / 10_000.0f64).abs() < 0.05);
    }
}
