"""What ONNX Runtime makes of an exported sentence encoder, in f32 and dynamically quantised to int8.

    python encoder_reference.py MODEL_FOLDER OUT_FOLDER

Writes into OUT_FOLDER:
    int8.onnx               the quantiser's file, as it comes out of it
    reference.safetensors   ids.N i64 [tokens], f32.N and int8.N f32 [hidden]: the sentence embeddings
"""

import argparse
import pathlib

import numpy as np
import onnxruntime
import onnxruntime.quantization
import safetensors.numpy
import tokenizers

SENTENCES = [
    "A man is eating food.",
    "The girl is carrying a baby through the crowded market.",
    "Quantum computers factor integers with Shor's algorithm; classical ones have no such luck.",
    "Paris",
    "Numbers like 3.14159 and 2,718,281 puzzle tokenizers, as do naïve café owners and 東京.",
]


def embed(path, ids):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Without it, ONNX Runtime's products saturate on processors that have no VNNI, and the reference depends on the machine.
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    row = np.asarray(ids, np.int64)[None]
    feeds = {"input_ids": row, "attention_mask": np.ones_like(row), "token_type_ids": np.zeros_like(row)}
    return session.run(["sentence_embedding"], feeds)[0][0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    arguments = parser.parse_args()

    arguments.out.mkdir(parents=True, exist_ok=True)
    exported, int8 = arguments.model / "model.onnx", arguments.out / "int8.onnx"
    # Left to itself the quantiser also rewrites Attention, into a node that ONNX Runtime then refuses.
    onnxruntime.quantization.quantize_dynamic(
        exported, int8, op_types_to_quantize=["MatMul", "Gather", "Gemm"]
    )
    tokenizer = tokenizers.Tokenizer.from_file(str(arguments.model / "tokenizer.json"))
    tokenizer.no_padding()
    arrays = {}
    for index, sentence in enumerate(SENTENCES):
        ids = tokenizer.encode(sentence).ids
        arrays[f"ids.{index}"] = np.asarray(ids, np.int64)
        arrays[f"f32.{index}"] = embed(exported, ids)
        arrays[f"int8.{index}"] = embed(int8, ids)
        f32, quantised = arrays[f"f32.{index}"], arrays[f"int8.{index}"]
        cosine = f32 @ quantised / np.linalg.norm(f32) / np.linalg.norm(quantised)
        print(f"sentence {index}: {len(ids)} tokens, int8 at cosine {cosine:.4f} of f32")
    safetensors.numpy.save_file(arrays, arguments.out / "reference.safetensors")


if __name__ == "__main__":
    main()
