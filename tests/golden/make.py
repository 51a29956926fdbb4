"""Makes the golden files in this folder: small checkpoints with random weights, and what the reference
implementation (torch, transformers, peft) makes of a fixed input.

Run once, by hand, when an architecture is added:  python make.py
Needs torch, transformers, peft, safetensors. The tests need none of them.

Every folder is a Hugging Face checkpoint plus `expected.safetensors`:
decoders  input_ids [1, 24], logits [1, 24, vocab];
encoders  input_ids, attention_mask, token_type_ids [2, 12], last_hidden_state, sentence_embedding;
`bert-labels`, a classifier, has logits [2, 3] instead of the last two.
`llama-lora` and `gpt2-rslora` are PEFT adapters for `llama` and `gpt2`, with the logits of base and adapter together.
"""

import json
import math
import shutil
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

HERE = Path(__file__).parent
VOCAB, CONTEXT = 128, 64
SMALL = dict(
    vocab_size=VOCAB,
    hidden_size=32,
    intermediate_size=48,  # not a multiple of a quantisation block
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=CONTEXT,
    bos_token_id=1,
    eos_token_id=2,
)
IDS = (torch.arange(24) * 37 % (VOCAB - 3) + 3)[None]


def randomise(model):
    """Weights large enough that every part of the model matters: norms away from 1, biases away from 0."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            norm = "norm" in name.lower() or ".ln_" in name
            centre = 1.0 if norm and name.endswith("weight") else 0.0
            parameter.data = centre + 0.2 * torch.randn_like(parameter)
        elif "emb" in name or "wte" in name or "wpe" in name:
            parameter.data = torch.randn_like(parameter)
        else:
            parameter.data = torch.randn_like(parameter) * 1.5 / math.sqrt(parameter.shape[-1])


def fresh(name):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def finish(folder, **expected):
    """Drops what transformers writes beside the checkpoint, and keeps what is expected of it."""
    keep = {"config.json", "generation_config.json", "model.safetensors", "modules.json", "1_Pooling"}
    for path in folder.iterdir():
        if path.name not in keep and not path.name.startswith("adapter_"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    save_file({key: value.contiguous() for key, value in expected.items()}, folder / "expected.safetensors")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder.name}: {size / 1024:.0f} KiB")


def decoder(name, model_class, config, stored=torch.float32):
    torch.manual_seed(len(name))
    model = model_class(config).eval()
    randomise(model)
    model.tie_weights()
    folder = fresh(name)
    model.to(stored).save_pretrained(folder)
    # Read back rather than widened in place: the rotary frequencies must not be rounded.
    model = model_class.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        finish(folder, input_ids=IDS, logits=model(IDS).logits)
    return model


def gpt2_config():
    return GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT, bos_token_id=1, eos_token_id=2
    )


def sinusoidal():
    """GPT-2's blocks under the original transformer's input: scaled embeddings plus sinusoids."""
    torch.manual_seed(7)
    config = gpt2_config()
    model = GPT2LMHeadModel(config).eval()
    randomise(model)
    model.tie_weights()
    # Vaswani et al. 2017, section 3.5.
    position = torch.arange(CONTEXT, dtype=torch.float64)[:, None]
    angle = position / 10000 ** (torch.arange(0, 32, 2, dtype=torch.float64) / 32)
    table = torch.stack([angle.sin(), angle.cos()], dim=-1).reshape(CONTEXT, 32)
    model.transformer.wpe.weight.data = table.float()
    with torch.no_grad():
        embedded = model.transformer.wte(IDS) * math.sqrt(32)
        logits = model(inputs_embeds=embedded).logits
    folder = fresh("sinusoidal")
    config.position_embedding_type = "sinusoidal"
    config.scale_embedding = True
    weights = {k: v for k, v in model.state_dict().items() if "wpe" not in k and k != "lm_head.weight"}
    save_file({k: v.clone().contiguous() for k, v in weights.items()}, folder / "model.safetensors")
    config.architectures = ["GPT2LMHeadModel"]
    config.save_pretrained(folder)
    finish(folder, input_ids=IDS, logits=logits)


BERT = dict(
    vocab_size=VOCAB,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=CONTEXT,
)


def bert_inputs():
    ids = IDS[:, :12].repeat(2, 1)
    ids[1] = ids[1].flip(0)
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    types = torch.zeros_like(ids)
    types[:, 5:] = 1
    return dict(input_ids=ids, attention_mask=mask, token_type_ids=types)


def bert_labels(name):
    torch.manual_seed(len(name))
    labels = dict(enumerate(["none", "on", "off"]))
    config = BertConfig(**BERT, id2label=labels, label2id={label: index for index, label in labels.items()})
    model = BertForSequenceClassification(config).eval()
    randomise(model)
    folder = fresh(name)
    model.save_pretrained(folder)
    inputs = bert_inputs()
    with torch.no_grad():
        finish(folder, **inputs, logits=model(**inputs).logits)


def bert(name, pooling, normalise):
    torch.manual_seed(len(name))
    config = BertConfig(**BERT)
    model = BertModel(config, add_pooling_layer=False).eval()
    randomise(model)
    folder = fresh(name)
    model.save_pretrained(folder)
    modules = ["Transformer", "Pooling"] + ["Normalize"] * normalise
    paths = ["", "1_Pooling", "2_Normalize"]
    (folder / "modules.json").write_text(
        json.dumps(
            [
                {"idx": i, "name": str(i), "path": paths[i], "type": f"sentence_transformers.models.{kind}"}
                for i, kind in enumerate(modules)
            ],
            indent=2,
        )
    )
    (folder / "1_Pooling").mkdir()
    modes = {f"pooling_mode_{mode}": mode == pooling for mode in ("cls_token", "mean_tokens", "max_tokens")}
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 32, **modes}, indent=2)
    )
    inputs = bert_inputs()
    mask = inputs["attention_mask"]
    with torch.no_grad():
        states = model(**inputs).last_hidden_state
    kept = mask[:, :, None].float()
    if pooling == "mean_tokens":
        sentence = (states * kept).sum(1) / kept.sum(1)
    elif pooling == "max_tokens":
        sentence = states.masked_fill(kept == 0, -math.inf).max(1).values
    else:
        sentence = states[:, 0]
    if normalise:
        sentence = torch.nn.functional.normalize(sentence, dim=-1)
    finish(
        folder,
        **inputs,
        last_hidden_state=states,
        sentence_embedding=sentence,
    )


def lora(name, base, **settings):
    """An adapter with weights large enough to matter; `name` is that of its base, and what it is."""
    torch.manual_seed(3)
    config = LoraConfig(r=4, lora_alpha=6, task_type="CAUSAL_LM", **settings)
    model = get_peft_model(base, config).eval()
    for parameter_name, parameter in model.named_parameters():
        if "lora_" in parameter_name:
            parameter.data = torch.randn_like(parameter) * 0.3
    folder = fresh(name)
    config.base_model_name_or_path = name.split("-")[0]
    model.save_pretrained(folder)
    with torch.no_grad():
        finish(folder, input_ids=IDS, logits=model(IDS).logits)


def main():
    base = decoder("llama", LlamaForCausalLM, LlamaConfig(**SMALL, tie_word_embeddings=True))
    lora("llama-lora", base, target_modules=["q_proj", "v_proj", "down_proj"])
    rope = dict(
        rope_type="llama3",
        rope_theta=500.0,
        factor=8.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=16,
    )
    decoder("llama3-rope", LlamaForCausalLM, LlamaConfig(**SMALL, rope_parameters=rope, tie_word_embeddings=False))
    yarn = dict(rope_type="yarn", rope_theta=500.0, factor=4.0, original_max_position_embeddings=16)
    decoder("yarn-rope", LlamaForCausalLM, LlamaConfig(**SMALL, rope_parameters=yarn, tie_word_embeddings=True))
    decoder("qwen2", Qwen2ForCausalLM, Qwen2Config(**SMALL, tie_word_embeddings=False), torch.bfloat16)
    decoder("qwen3", Qwen3ForCausalLM, Qwen3Config(**SMALL, head_dim=16, tie_word_embeddings=True), torch.float16)
    base = decoder("gpt2", GPT2LMHeadModel, gpt2_config())
    # c_attn is one module for queries, keys and values; the head is tied in the base, and changed by itself.
    modules = ["c_attn", "c_fc", "mlp.c_proj", "lm_head"]
    lora("gpt2-rslora", base, target_modules=modules, fan_in_fan_out=True, use_rslora=True, rank_pattern={"c_fc": 3})
    sinusoidal()
    bert_labels("bert-labels")
    bert("bert-mean", "mean_tokens", normalise=True)
    bert("bert-cls", "cls_token", normalise=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
