#!/usr/bin/env python3
"""Makes tests/firmware/tiny: a Llama of 30,000 random parameters with a byte-level tokenizer.

It answers nonsense, always the same. It is small enough for a Cortex-M0 with 16 KiB of RAM, and for a plan to be damaged at many
places within seconds. Needs nothing but Python:

    python3 tests/firmware/make.py
"""

import json
import pathlib
import random
import struct

FOLDER = pathlib.Path(__file__).parent / "tiny"
HIDDEN, FFN, LAYERS, HEADS = 32, 64, 2, 1
# Merges of bytes, so that the tokenizer has something to do.
WORDS = ["the", "light", "off", "kitchen", "turn", "on"]


def alphabet():
    """GPT-2's printable stand-ins for the 256 bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    stands = dict(zip(plain, plain))
    extra = 256
    for byte in range(256):
        if byte not in stands:
            stands[byte] = extra
            extra += 1
    return [chr(stands[byte]) for byte in range(256)]


def tokenizer():
    vocabulary = {"<|end|>": 0, "<|answer|>": 1}
    for letter in alphabet():
        vocabulary[letter] = len(vocabulary)
    merges = []
    for word in WORDS:
        piece = word[0]
        for letter in word[1:]:
            if piece + letter not in vocabulary:
                merges.append([piece, letter])
                vocabulary[piece + letter] = len(vocabulary)
            piece += letter
    special = [
        {"id": token, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for text, token in (("<|end|>", 0), ("<|answer|>", 1))
    ]
    return vocabulary, {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<|answer|>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<|answer|>": {"id": "<|answer|>", "ids": [1], "tokens": ["<|answer|>"]}},
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": False},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": vocabulary, "merges": merges},
    }


def main():
    numbers = random.Random(20)
    vocabulary, description = tokenizer()
    shapes = {"model.embed_tokens.weight": [len(vocabulary), HIDDEN], "model.norm.weight": [HIDDEN]}
    for layer in range(LAYERS):
        name = f"model.layers.{layer}."
        for part in "qkvo":
            shapes[f"{name}self_attn.{part}_proj.weight"] = [HIDDEN, HIDDEN]
        shapes[name + "mlp.gate_proj.weight"] = shapes[name + "mlp.up_proj.weight"] = [FFN, HIDDEN]
        shapes[name + "mlp.down_proj.weight"] = [HIDDEN, FFN]
        shapes[name + "input_layernorm.weight"] = shapes[name + "post_attention_layernorm.weight"] = [HIDDEN]
    header, data = {}, b""
    for name, shape in sorted(shapes.items()):
        # Wide enough that answers depend on the prompt and differ from token to token.
        values = ([1.0] * shape[0] if len(shape) == 1
                  else [numbers.gauss(0, 0.6) for _ in range(shape[0] * shape[1])])
        packed = struct.pack(f"<{len(values)}e", *values)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": HIDDEN,
        "intermediate_size": FFN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS, "head_dim": HIDDEN // HEADS, "vocab_size": len(vocabulary),
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True,
        "eos_token_id": 0, "bos_token_id": None, "torch_dtype": "float16",
    }
    files = {"config.json": config, "generation_config.json": {"eos_token_id": 0}, "tokenizer.json": description,
             "tokenizer_config.json": {"eos_token": "<|end|>", "model_max_length": 64}}
    for name, content in files.items():
        (FOLDER / name).write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n")


main()
