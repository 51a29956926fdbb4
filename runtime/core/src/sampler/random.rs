//! Random numbers that are the same on every machine.

/// PCG-XSH-RR 64/32: M. E. O'Neill, «PCG: A Family of Simple Fast Space-Efficient Statistically Good
/// Algorithms for Random Number Generation», 2014, HMC-CS-2014-0905.
#[derive(Clone, Debug)]
pub(super) struct Pcg32 {
    state: u64,
    increment: u64,
}

impl Pcg32 {
    /// The start of sequence `stream` at `seed`, as the paper's reference program begins it.
    pub(super) fn new(seed: u64, stream: u64) -> Pcg32 {
        let mut random = Pcg32 {
            state: 0,
            increment: stream << 1 | 1,
        };
        random.next();
        random.state = random.state.wrapping_add(seed);
        random.next();
        random
    }

    fn next(&mut self) -> u32 {
        let old = self.state;
        self.state = old
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(self.increment);
        let mixed = (((old >> 18) ^ old) >> 27) as u32;
        mixed.rotate_right((old >> 59) as u32)
    }

    /// Uniform in `0..1`, a multiple of 2⁻²⁴.
    pub(super) fn next_unit(&mut self) -> f32 {
        (self.next() >> 8) as f32 / 16_777_216.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_numbers_of_the_reference_program() {
        let mut random = Pcg32::new(42, 54);
        let got = [(); 6].map(|()| random.next());
        let want = [
            0xa15c_02b7,
            0x7b47_f409,
            0xba1d_3330,
            0x83d2_f293,
            0xbfa4_784b,
            0xcbed_606e,
        ];
        assert_eq!(got, want);
    }
}
