"""Makes the checkpoint of the tiny chat model: random weights, a byte-level tokenizer, ChatML.

    pip install torch transformers safetensors
    python make.py CHECKPOINT
    fine-tune export --base CHECKPOINT --weights q8 --out tiny-chat
"""

import json
import pathlib
import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM

out = pathlib.Path(sys.argv[1])
golden = pathlib.Path(__file__).parents[4] / "runtime/engine/src/text/goldens"
tokenizer = json.loads((golden / "tokenizer_byte_level.json").read_text(encoding="utf-8"))["tokenizer"]
template = json.loads((golden / "template_smollm2.json").read_text(encoding="utf-8"))["template"]

torch.manual_seed(7)
config = LlamaConfig(
    vocab_size=330,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=256,
    tie_word_embeddings=True,
    bos_token_id=1,
    eos_token_id=2,
    initializer_range=0.35,
)
LlamaForCausalLM(config).save_pretrained(out)
(out / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
names = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "chat_template": template}
(out / "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")
