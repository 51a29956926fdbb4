//! Positions: rotary frequencies and their scalings, and the original transformer's sinusoids.
//!
//! Frequencies are rounded to f32 and multiplied by the position in f32, as the reference implementation does: models
//! were trained with that rounding.

use std::f64::consts::PI;

/// How positions enter the model.
#[derive(Debug, Clone, PartialEq)]
pub enum Positions {
    /// Queries and keys are rotated (rotate-half convention).
    Rotary(Rotary),
    /// A table that was trained is added to the embedding.
    Learned,
    /// The original transformer's table is added to the embedding: see [`sinusoidal_table`].
    Sinusoidal,
}

/// Rotary position embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotary {
    /// Base of the frequencies.
    pub theta: f64,
    /// How many leading elements of each head are rotated; even, at most `head_dim`.
    pub dims: usize,
    /// How frequencies are changed for a longer context.
    pub scaling: RopeScaling,
}

/// How rotary frequencies are changed for a longer context.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All frequencies are divided by a factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Each frequency is divided by a number of its own, `[dims / 2]`.
    Divisors(Vec<f32>),
    /// Llama 3's: low frequencies are divided, high ones kept, those between blended.
    Llama3(Llama3Scaling),
    /// YaRN (Peng et al., 2023, arXiv 2309.00071): a ramp between kept and divided frequencies, and a scale on cos and sin.
    Yarn(YarnScaling),
}

/// Parameters of Llama 3's rotary scaling.
#[derive(Debug, Clone, PartialEq)]
pub struct Llama3Scaling {
    /// What low frequencies are divided by.
    pub factor: f64,
    /// Wavelengths above `original_context / low_freq_factor` are divided.
    pub low_freq_factor: f64,
    /// Wavelengths below `original_context / high_freq_factor` are kept.
    pub high_freq_factor: f64,
    /// Context length before scaling, in tokens.
    pub original_context: usize,
}

/// Parameters of YaRN.
#[derive(Debug, Clone, PartialEq)]
pub struct YarnScaling {
    /// What low frequencies are divided by.
    pub factor: f64,
    /// Context length before scaling, in tokens.
    pub original_context: usize,
    /// Rotations within the original context above which a frequency is kept.
    pub beta_fast: f64,
    /// Rotations within the original context below which a frequency is divided.
    pub beta_slow: f64,
    /// Whether the ramp's ends are rounded outwards to whole dimensions.
    pub truncate: bool,
    /// What cos and sin are multiplied by.
    pub attention_factor: f64,
}

impl Rotary {
    /// The `dims / 2` angles per position, highest frequency first, in radians.
    pub fn inverse_frequencies(&self) -> Vec<f32> {
        let dims = self.dims as f64;
        let plain = (0..self.dims / 2).map(|i| self.theta.powf(-2.0 * i as f64 / dims));
        match &self.scaling {
            RopeScaling::None => plain.map(|f| f as f32).collect(),
            RopeScaling::Linear { factor } => plain.map(|f| (f / factor) as f32).collect(),
            RopeScaling::Divisors(divisors) => plain
                .zip(divisors)
                .map(|(f, divisor)| (f / f64::from(*divisor)) as f32)
                .collect(),
            RopeScaling::Llama3(scaling) => plain.map(|f| scaling.scale(f) as f32).collect(),
            RopeScaling::Yarn(scaling) => {
                let (low, high) = scaling.ramp(dims, self.theta);
                plain
                    .enumerate()
                    .map(|(i, f)| {
                        let divided = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                        (f / scaling.factor * divided + f * (1.0 - divided)) as f32
                    })
                    .collect()
            }
        }
    }

    /// What cos and sin are multiplied by: 1 but for YaRN.
    pub fn attention_factor(&self) -> f32 {
        match &self.scaling {
            RopeScaling::Yarn(scaling) => scaling.attention_factor as f32,
            _ => 1.0,
        }
    }

    /// The tables of cosines and sines, each `[positions, dims / 2]` in row order, attention factor included.
    pub fn tables(&self, positions: usize) -> (Vec<f32>, Vec<f32>) {
        let frequencies = self.inverse_frequencies();
        let factor = self.attention_factor();
        let angles = || {
            (0..positions).flat_map(|position| {
                frequencies
                    .iter()
                    .map(move |f| f64::from(position as f32 * f))
            })
        };
        (
            angles().map(|angle| angle.cos() as f32 * factor).collect(),
            angles().map(|angle| angle.sin() as f32 * factor).collect(),
        )
    }
}

impl Llama3Scaling {
    /// The frequency that replaces `frequency`.
    fn scale(&self, frequency: f64) -> f64 {
        let context = self.original_context as f64;
        let wavelength = 2.0 * PI / frequency;
        if wavelength < context / self.high_freq_factor {
            frequency
        } else if wavelength > context / self.low_freq_factor {
            frequency / self.factor
        } else {
            let kept = (context / wavelength - self.low_freq_factor)
                / (self.high_freq_factor - self.low_freq_factor);
            (1.0 - kept) * frequency / self.factor + kept * frequency
        }
    }
}

impl YarnScaling {
    /// First and last pair of dimensions between which frequencies go from kept to divided.
    fn ramp(&self, dims: f64, theta: f64) -> (f64, f64) {
        let at = |rotations: f64| {
            dims * (self.original_context as f64 / (rotations * 2.0 * PI)).ln() / (2.0 * theta.ln())
        };
        let (mut low, mut high) = (at(self.beta_fast), at(self.beta_slow));
        if self.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, high) = (low.max(0.0), high.min(dims - 1.0));
        (low, if low == high { high + 0.001 } else { high })
    }

    /// The attention factor that the paper suggests for `factor`, with DeepSeek's `mscale` pair where a config has it.
    pub fn suggested_attention_factor(factor: f64, mscale: Option<(f64, f64)>) -> f64 {
        let scale = |m: f64| {
            if factor <= 1.0 {
                1.0
            } else {
                0.1 * m * factor.ln() + 1.0
            }
        };
        match mscale {
            Some((mscale, all_dims)) => scale(mscale) / scale(all_dims),
            None => scale(1.0),
        }
    }
}

/// The original transformer's positions (Vaswani et al., 2017): `[positions, width]` in row order, with
/// `sin(p / 10000^(2i/width))` in element `2i` and the cosine of the same angle in element `2i + 1`.
pub fn sinusoidal_table(positions: usize, width: usize) -> Vec<f32> {
    let frequency = |element: usize| 10000f64.powf(-((element & !1) as f64) / width as f64);
    (0..positions)
        .flat_map(|position| {
            (0..width).map(move |element| {
                let angle = position as f64 * frequency(element);
                (if element % 2 == 0 {
                    angle.sin()
                } else {
                    angle.cos()
                }) as f32
            })
        })
        .collect()
}
