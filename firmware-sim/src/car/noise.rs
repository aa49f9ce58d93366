//! Chance, seeded: the same seed gives the same car.

/// A small generator (splitmix64): fast, seedable with any number, good enough for noise.
#[derive(Debug, Clone)]
pub struct Noise(u64);

impl Noise {
    /// A generator for a seed and what it is used for, so that uses do not disturb each other.
    #[must_use]
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mut state = seed ^ 0xcbf2_9ce4_8422_2325;
        for byte in purpose.bytes() {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        let mut noise = Self(state);
        noise.next_u64();
        noise
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly from 0 up to `end`, which is not reached; 0 for an `end` of 0.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(end)) >> 64) as u64
    }

    /// Evenly from 0 to 1.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// About normal, with a standard deviation of 1, never beyond ±3.5: four even numbers added.
    #[inline]
    pub fn bell(&mut self) -> f64 {
        let bits = self.next_u64();
        let sum = (bits & 0xffff) + ((bits >> 16) & 0xffff) + ((bits >> 32) & 0xffff) + (bits >> 48);
        (sum as f64 - 131_070.0) * (1.732_050_8 / 65_536.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bell_is_centred_and_as_wide_as_it_says() {
        let mut noise = Noise::new(1, "test");
        let values: Vec<f64> = (0..20_000).map(|_| noise.bell()).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let spread = (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt();
        assert!(mean.abs() < 0.03, "mean {mean}");
        assert!((spread - 1.0).abs() < 0.05, "spread {spread}");
        assert!(values.iter().all(|v| v.abs() < 3.5));
    }

    #[test]
    fn purposes_draw_different_numbers() {
        assert_ne!(Noise::new(1, "a").next_u64(), Noise::new(1, "b").next_u64());
    }
}
