"""Prints the table in the tests of `elements.rs`: what the `gguf` package makes of pseudo-random blocks.

Needs numpy and gguf (llama.cpp's own package). Run by hand when a format is added.
"""

import numpy as np
from gguf import GGMLQuantizationType as Kind, dequantize

BLOCKS = 3
# Format: bytes of a block, and where in it half floats lie.
FORMATS = {
    "Q4_0": (18, [0]),
    "Q4_1": (20, [0, 2]),
    "Q5_0": (22, [0]),
    "Q5_1": (24, [0, 2]),
    "Q8_0": (34, [0]),
    "Q4_K": (144, [0, 2]),
    "Q5_K": (176, [0, 2]),
    "Q6_K": (210, [208]),
}


def blocks(size, halves):
    """Bytes from a linear congruential generator; half floats are kept positive and below 2."""
    state, out = 1, bytearray()
    for _ in range(size * BLOCKS):
        state = (state * 1103515245 + 12345) % 2**31
        out.append(state >> 16 & 255)
    for block in range(BLOCKS):
        for half in halves:
            out[block * size + half + 1] &= 0x3F
    return np.frombuffer(bytes(out), dtype=np.uint8)


def fnv(data):
    """64-bit FNV-1a."""
    state = 0xCBF29CE484222325
    for byte in data:
        state = (state ^ byte) * 0x100000001B3 % 2**64
    return state


for name, (size, halves) in FORMATS.items():
    values = dequantize(blocks(size, halves).reshape(1, -1), Kind[name]).astype("<f4")
    rust = name.replace("_K", "K")
    print(f"(Elements::{rust}, &{halves}, {fnv(values.tobytes()):#018x}),")
