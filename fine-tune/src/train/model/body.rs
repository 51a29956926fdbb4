//! The layers of a model, whatever its family, and how they are found in the table of parameters.

use super::block::Block;
use super::classes::Classifier;
use super::{ModelOptions, ParameterId, Parameters, decoder, encoder};
use crate::architecture::{Architecture, Positions};
use crate::error::{Error, Result};
use crate::train::layers::{Linear, Norm, Site, WeightLayout};

/// The layers of a model.
#[derive(Debug)]
pub struct Body {
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Longest example in tokens.
    pub context_length: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Whether a token sees none behind it.
    pub causal: bool,
    /// The table of tokens.
    pub embedding: ParameterId,
    /// What embedded tokens are multiplied by.
    pub embedding_scale: f32,
    /// How positions enter.
    pub positions: Positions,
    /// The table of positions, where it is trained.
    pub position_table: Option<ParameterId>,
    /// The table of token types, of which all tokens have the first.
    pub type_table: Option<ParameterId>,
    /// The norm of what is embedded.
    pub embedding_norm: Option<Norm>,
    /// Blocks, first to last.
    pub blocks: Vec<Block>,
    /// The norm behind the last block.
    pub norm: Option<Norm>,
    /// The output head; the embedding, where they are tied; none in an encoder.
    pub head: Option<ParameterId>,
    /// What tells the class of a text, in an encoder that is made for it.
    pub classifier: Option<Classifier>,
}

impl Body {
    /// Finds the parameters of `architecture`.
    ///
    /// # Errors
    /// When one is missing.
    pub fn new(
        architecture: &Architecture,
        options: &ModelOptions,
        parameters: &Parameters,
    ) -> Result<Body> {
        let names = Names { parameters };
        match architecture {
            Architecture::Decoder(config) => decoder::body(config, options, &names),
            Architecture::Encoder(config) => encoder::body(config, options, &names),
        }
    }
}

/// Looks parameters up by the names of their modules.
pub struct Names<'a> {
    parameters: &'a Parameters,
}

impl Names<'_> {
    /// The parameter of that name.
    pub fn find(&self, name: &str) -> Result<ParameterId> {
        self.parameters
            .find(name)
            .ok_or_else(|| Error::training(format!("parameter {name}"), "the model has none"))
    }

    /// The RMSNorm of that name.
    pub fn rms(&self, module: &str, eps: f32) -> Result<Norm> {
        let weight = self.find(&format!("{module}.weight"))?;
        Ok(Norm::Rms { weight, eps })
    }

    /// The LayerNorm of that name.
    pub fn layer(&self, module: &str, eps: f32) -> Result<Norm> {
        let weight = self.find(&format!("{module}.weight"))?;
        let bias = self.find(&format!("{module}.bias"))?;
        Ok(Norm::Layer { weight, bias, eps })
    }

    /// The linear layer of that name, whose dropout masks are those of `site`.
    pub fn linear(
        &self,
        module: String,
        layout: WeightLayout,
        bias: bool,
        site: Site,
    ) -> Result<Linear> {
        let weight = self.find(&format!("{module}.weight"))?;
        let bias = if bias {
            Some(self.find(&format!("{module}.bias"))?)
        } else {
            None
        };
        Ok(Linear {
            module,
            weight,
            layout,
            bias,
            adapter: None,
            site,
        })
    }
}
