//! Text in and text out: what stands between a person's words and the tokens of a [`Session`](crate::Session).
//!
//! A conversation goes down these modules in order:
//!
//! 1. [`ChatTemplate`] writes a list of [`Message`]s out as the prompt the model was trained on.
//! 2. [`Tokenizer`] turns the prompt into token ids.
//! 3. [`Generator`] feeds them to the session, samples the next token, and again, until something says stop.
//! 4. [`StreamDecoder`] turns each new token into text, never splitting a character.
//! 5. [`StopStrings`] lets the text through until one of the strings that end it turns up.

mod byte_pairs;
mod generate;
mod likelihood;
mod lookup;
mod lowered;
mod namespaces;
mod pieces;
mod python_json;
mod stop;
mod stream;
mod strftime;
mod template;
mod tokenizer;

pub use furlong_core::sampler::SamplingParams;
pub use generate::{
    FinishReason, GenerateOptions, Generation, Generator, LookupStats, Timings, TokenModel,
};
pub use likelihood::Likelihood;
pub use lowered::LoweredText;
pub use stop::StopStrings;
pub use stream::StreamDecoder;
pub use template::{ChatTemplate, Message};
pub use tokenizer::Tokenizer;

#[cfg(test)]
mod generate_tests;
#[cfg(test)]
mod tests;
