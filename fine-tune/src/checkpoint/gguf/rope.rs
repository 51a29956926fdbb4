//! Rotary scaling, as llama.cpp's converter stores it: keys for linear and YaRN, a tensor of divisors for Llama 3's.

use serde_json::{Value as Json, json};

use super::config::Keys;
use crate::architecture::{Llama3Scaling, RopeScaling, Rotary};
use crate::error::{Error, Result};

impl Keys<'_> {
    /// The field `rope_scaling` of a config whose heads rotate `dims` elements.
    pub(super) fn rope_scaling(&self, dims: u64, context: u64) -> Result<Json> {
        let kind = self.text("rope.scaling.type")?.unwrap_or("none");
        let factor = self.number("rope.scaling.factor")?;
        let original = self
            .size("rope.scaling.original_context_length")?
            .unwrap_or(context);
        if self.has_tensor("rope_freqs.weight") {
            return self.divided(dims);
        }
        for key in [
            "rope.scaling.yarn_ext_factor",
            "rope.scaling.attn_factor",
            "rope.scaling.yarn_attn_factor",
        ] {
            if let Some(value) = self.number(key)?.filter(|value| *value != 1.0) {
                return Err(Error::unsupported(self.path, self.full(key), value, "1"));
            }
        }
        match kind {
            "none" => Ok(Json::Null),
            "linear" => Ok(json!({ "rope_type": "linear", "factor": factor })),
            "yarn" => Ok(json!({
                "rope_type": "yarn",
                "factor": factor,
                "original_max_position_embeddings": original,
                "beta_fast": self.number("rope.scaling.yarn_beta_fast")?,
                "beta_slow": self.number("rope.scaling.yarn_beta_slow")?,
            })),
            other => {
                let field = self.full("rope.scaling.type");
                Err(Error::unsupported(
                    self.path,
                    field,
                    other,
                    "none, linear, yarn",
                ))
            }
        }
    }

    /// The scaling that the divisors in `rope_freqs.weight` stand for: Llama 3's where they are those of its releases (which differ
    /// in the factor alone, and that is the largest divisor), else the divisors themselves.
    fn divided(&self, dims: u64) -> Result<Json> {
        let name = "rope_freqs.weight";
        let divisors = self.f32_tensor(name)?;
        let dims = usize::try_from(dims).unwrap_or(usize::MAX);
        if dims / 2 != divisors.len() {
            let reason = format!("{} divisors for {dims} rotating elements", divisors.len());
            return Err(Error::malformed(
                self.path,
                format!("tensor {name}"),
                reason,
            ));
        }
        let factor = divisors.iter().copied().fold(1.0, f32::max);
        if divisors.iter().all(|divisor| *divisor == 1.0) {
            return Ok(Json::Null);
        }
        let plain = Rotary {
            theta: self.number("rope.freq_base")?.unwrap_or(10_000.0),
            dims,
            scaling: RopeScaling::None,
        };
        let scaled = Rotary {
            scaling: RopeScaling::Llama3(Llama3Scaling {
                factor: factor.into(),
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_context: 8192,
            }),
            ..plain.clone()
        };
        let frequencies = plain
            .inverse_frequencies()
            .into_iter()
            .zip(scaled.inverse_frequencies());
        let released = frequencies
            .zip(&divisors)
            .all(|((plain, scaled), divisor)| (plain / scaled / divisor - 1.0).abs() < 1e-3);
        if !released {
            return Ok(json!({ "rope_type": "divisors", "divisors": divisors }));
        }
        Ok(json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }))
    }
}
