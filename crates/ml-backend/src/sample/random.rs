//! Random numbers that are a function of a seed and a position, so that a text does not depend on who else is drawn
//! for. The function is that of SplitMix64 (Steele, Lea and Flood, 2014), which is a bijection of 64 bits.

/// The odd number nearest to 2⁶⁴ over the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Uniform in [0, 1), for a place in a text and one of the draws that are made there.
pub(super) fn uniform(seed: u64, position: u64, draw: u64) -> f64 {
    let place = position.wrapping_mul(2).wrapping_add(draw).wrapping_add(1);
    let bits = mix(mix(seed).wrapping_add(place.wrapping_mul(STEP)));
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

#[cfg(test)]
mod tests {
    use super::uniform;

    /// The first number of SplitMix64 from a state of zero, which its authors' code gives.
    #[test]
    fn the_function_is_the_published_one() {
        assert_eq!(super::mix(super::STEP), 0xe220_a839_7b1d_cdaf);
    }

    /// Of seeds that follow each other and of places that do: a chi-square of 16 bins, far from its edges.
    #[test]
    fn neighbours_are_independent() {
        type Numbers = fn(u64) -> f64;
        let many: [(&str, Numbers); 3] = [
            ("places", |i| uniform(7, i, 0)),
            ("seeds", |i| uniform(i, 3, 0)),
            ("sums of two", |i| {
                (uniform(i, 3, 0) + uniform(i + 1, 3, 0)).fract()
            }),
        ];
        for (name, number) in many {
            const COUNT: usize = 100_000;
            let mut bins = [0_usize; 16];
            for i in 0..COUNT as u64 {
                bins[(number(i) * 16.0) as usize] += 1;
            }
            let expected = COUNT as f64 / 16.0;
            let chi: f64 = bins
                .iter()
                .map(|&n| (n as f64 - expected).powi(2) / expected)
                .sum();
            // 15 degrees of freedom: 0.9999 of all are below 44.3.
            assert!(chi < 44.3, "{name}: {chi}");
        }
    }
}
