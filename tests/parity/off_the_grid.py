"""Moves the weights of a GGUF checkpoint off the grid that they were rounded to, by up to half a step, and stores them in 16 bits.

    python off_the_grid.py IN.gguf OUT.gguf        needs gguf, numpy

What a checkpoint that comes in 16 bits gains from a calibration text can't be seen on one whose weights lie on a 4-bit grid
already (SmolLM2 as published). This makes one that doesn't: each linear weight gets uniform noise of at most half the step of its
block of 32.
"""

import sys

import gguf
import numpy as np

BLOCK = 32


def moved(weights, random):
    """Noise of at most half a step; a block's step is its range by 15."""
    blocks = weights.reshape(-1, BLOCK)
    step = (blocks.max(axis=1) - blocks.min(axis=1)) / 15
    noise = random.uniform(-0.5, 0.5, blocks.shape).astype(np.float32)
    return (blocks + noise * step[:, None]).reshape(weights.shape)


def main():
    source, out = sys.argv[1:]
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(out, arch="llama")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)
    random = np.random.default_rng(7)
    for tensor in reader.tensors:
        weights = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if tensor.name.startswith("blk.") and weights.ndim == 2:
            weights = moved(weights, random)
        writer.add_tensor(tensor.name, weights.astype(np.float16) if weights.ndim == 2 else weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
