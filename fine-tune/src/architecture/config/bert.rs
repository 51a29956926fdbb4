//! Configs of BERT encoders.

use serde_json::{Map, Value, json};

use super::gpt2::absolute_positions;
use super::{Fields, MAX_CONTEXT, MAX_LAYERS, MAX_VOCAB, MAX_WIDTH, SentenceHead, check_class};
use crate::architecture::{Activation, EncoderConfig, Pooling};
use crate::error::Result;

/// The class with a head that tells what a text is.
const CLASSIFIER: &str = "BertForSequenceClassification";
/// That, and classes whose encoder is all that an embedding needs; other heads would be lost silently.
const CLASSES: &[&str] = &[
    "BertModel",
    "BertForMaskedLM",
    "BertForPreTraining",
    CLASSIFIER,
];
/// The most classes of a text.
const MAX_LABELS: usize = 1 << 16;

pub fn parse(fields: &Fields, head: SentenceHead) -> Result<EncoderConfig> {
    check_class(fields, CLASSES)?;
    fields.refuse("is_decoder", "false: BERT as an encoder")?;
    let hidden_size = fields.size("hidden_size", MAX_WIDTH)?;
    let heads = fields.size("num_attention_heads", MAX_WIDTH)?;
    if hidden_size % heads != 0 {
        return Err(fields.unsupported(
            "num_attention_heads",
            heads,
            &format!("a divisor of hidden_size, {hidden_size}"),
        ));
    }
    let name = fields.text("hidden_act")?.unwrap_or("gelu");
    let activation = Activation::from_name(name)
        .filter(|activation| *activation != Activation::Silu)
        .ok_or_else(|| fields.unsupported("hidden_act", name, "gelu, gelu_new, relu"))?;
    let labels = labels(fields)?;
    Ok(EncoderConfig {
        model_type: "bert".to_owned(),
        vocab_size: fields.size("vocab_size", MAX_VOCAB)?,
        hidden_size,
        layers: fields.size("num_hidden_layers", MAX_LAYERS)?,
        heads,
        intermediate_size: fields.size("intermediate_size", MAX_WIDTH)?,
        context_length: fields.size("max_position_embeddings", MAX_CONTEXT)?,
        token_types: fields.count_or("type_vocab_size", MAX_VOCAB, 2)?,
        activation,
        norm_eps: fields.epsilon_or("layer_norm_eps", 1e-12)?,
        positions: absolute_positions(fields)?,
        pooling: if labels.is_empty() {
            head.pooling
        } else {
            Pooling::None
        },
        normalise: head.normalise && labels.is_empty(),
        labels,
    })
}

/// The names of the classes; none of a model that is no classifier.
fn labels(fields: &Fields) -> Result<Vec<String>> {
    let is_classifier = fields
        .get("architectures")
        .and_then(Value::as_array)
        .is_some_and(|classes| classes.iter().any(|class| class == CLASSIFIER));
    if !is_classifier {
        return Ok(Vec::new());
    }
    let one_of_several = "single_label_classification";
    let problem = fields.text("problem_type")?.unwrap_or(one_of_several);
    if problem != one_of_several {
        return Err(fields.unsupported("problem_type", problem, one_of_several));
    }
    let Some(names) = fields.object("id2label")? else {
        let count = fields.count_or("num_labels", MAX_LABELS, 2)?;
        return Ok((0..count).map(|index| format!("LABEL_{index}")).collect());
    };
    let count = names.iter().count();
    if !(1..=MAX_LABELS).contains(&count) {
        let supported = format!("1 to {MAX_LABELS} names");
        return Err(fields.unsupported("id2label", format!("{count} names"), &supported));
    }
    let mut labels = Vec::with_capacity(count);
    for index in 0..count {
        let name = names.text(&index.to_string())?.ok_or_else(|| {
            names.unsupported(
                &index.to_string(),
                "missing",
                "numbers from 0 without a gap",
            )
        })?;
        labels.push(name.to_owned());
    }
    Ok(labels)
}

/// Makes `config` that of a classifier with these classes.
pub fn set_labels(config: &mut Map<String, Value>, labels: &[String]) {
    let numbered = || labels.iter().enumerate();
    let by_id: Map<_, _> = numbered()
        .map(|(id, label)| (id.to_string(), json!(label)))
        .collect();
    let by_label: Map<_, _> = numbered()
        .map(|(id, label)| (label.clone(), json!(id)))
        .collect();
    config.insert("architectures".to_owned(), json!([CLASSIFIER]));
    config.insert(
        "problem_type".to_owned(),
        json!("single_label_classification"),
    );
    config.insert("id2label".to_owned(), Value::Object(by_id));
    config.insert("label2id".to_owned(), Value::Object(by_label));
}
