#!/usr/bin/env python3
"""Makes small encoders beside this file, and what ONNX Runtime says of them.

    python tests/encoders/make.py         needs numpy, onnx 1.23, onnxruntime 1.32

Random weights, fixed seed. `NAME.onnx` is a model, `NAME.io` holds what goes in and what must come out, as in
`tests/foreign`: an ONNX file without nodes whose initialisers are `in:INPUT.I` and `out:logits.I`. `pattern.json` is for
boards, which make their features themselves.

- `frames`: MFCC frames `[1, 49, 40]`, two convolutions over time as in Whisper (Radford and others, 2022, arXiv
  2212.04356), a class token and learnt positions as in the Keyword Transformer (Berg, O'Connor and Cruz, 2021, arXiv
  2104.00769). The layers' weights have 8 bits.
- `patches`: a log-mel spectrogram `[1, 1, 40, 98]` in overlapping patches as in the Audio Spectrogram Transformer (Gong,
  Chung and Glass, 2021, arXiv 2104.01778), the mean over the patches. Plain f32.
- `classifier`: BERT with its pooler (the first token, a layer, tanh) and a classifier's head, in the dialect of our exports.
  Sentences of 1 to 16 tokens.
"""
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

HERE = Path(__file__).parent
MS = "com.microsoft"
CLASSES, CASES = 12, 4


class Graph:
    """Nodes and initialisers in the order they are added."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.weights = [], []

    def node(self, op, inputs, domain="", output=None, **attributes):
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(h.make_node(op, inputs, [output or name], name=name, domain=domain, **attributes))
        return output or name

    def const(self, array):
        name = f"w{len(self.weights)}"
        self.weights.append(nh.from_array(np.asarray(array), name))
        return name

    def integers(self, *values):
        return self.const(np.array(values, np.int64))

    def random(self, *shape, scale):
        return self.const((self.rng.standard_normal(shape) * scale).astype(np.float32))

    def linear(self, x, inputs, outputs, bits=None, output=None):
        """A linear layer with a bias: `MatMul`, or `MatMulNBits` of 8 bits in blocks of 32."""
        if bits is None:
            y = self.node("MatMul", [x, self.random(inputs, outputs, scale=1 / np.sqrt(inputs))])
            return self.node("Add", [y, self.random(outputs, scale=0.1)], output=output)
        blocks = inputs // 32
        codes = self.rng.integers(1, 256, (outputs, blocks, 32)).astype(np.uint8)
        scales = self.rng.uniform(0.5, 1.5, (outputs, blocks)) / 73 / np.sqrt(inputs)
        names = [x, self.const(codes), self.const(scales.astype(np.float32)), "", "", self.random(outputs, scale=0.1)]
        return self.node("MatMulNBits", names, domain=MS, output=output, K=inputs, N=outputs, bits=8, block_size=32)

    def conv(self, x, inputs, outputs, kernel, stride, pad):
        shape = (outputs, inputs, *kernel)
        weights = self.random(*shape, scale=1 / np.sqrt(inputs * np.prod(kernel)))
        names = [x, weights, self.random(outputs, scale=0.1)]
        return self.node("Conv", names, kernel_shape=kernel, strides=stride, pads=list(pad) * 2)

    def norm(self, x, width):
        gain = self.const(self.rng.uniform(0.5, 1.5, width).astype(np.float32))
        return self.node("LayerNormalization", [x, gain, self.random(width, scale=0.1)], axis=-1, epsilon=1e-5)

    def layer(self, x, width, heads, inner, bits, mask=()):
        """Norms come after the sums, as in the Keyword Transformer."""
        q, k, v = (self.linear(x, width, width, bits) for _ in range(3))
        mixed = self.node("Attention", [q, k, v, *mask], q_num_heads=heads, kv_num_heads=heads)
        x = self.norm(self.node("Add", [x, self.linear(mixed, width, width, bits)]), width)
        y = self.node("Gelu", [self.linear(x, width, inner, bits)])
        return self.norm(self.node("Add", [x, self.linear(y, inner, width, bits)]), width)

    def session(self, name, inputs, batch):
        logits = h.make_tensor_value_info("logits", T.FLOAT, [batch, CLASSES])
        graph = h.make_graph(self.nodes, name, inputs, [logits], self.weights)
        opsets = [h.make_opsetid("", 23), h.make_opsetid(MS, 1)]
        model = h.make_model(graph, opset_imports=opsets, ir_version=11)
        onnx.checker.check_model(model)
        onnx.save(model, HERE / f"{name}.onnx")
        return ort.InferenceSession(str(HERE / f"{name}.onnx"), providers=["CPUExecutionProvider"])

    def save_io(self, name, tensors):
        output = h.make_tensor_value_info(tensors[0].name, tensors[0].data_type, None)
        onnx.save(h.make_model(h.make_graph([], name, [], [output], tensors), ir_version=10), HERE / f"{name}.io")

    def save(self, name, shape):
        session = self.session(name, [h.make_tensor_value_info("features", T.FLOAT, shape)], 1)
        tensors = []
        for case in range(CASES):
            x = (3 * self.rng.standard_normal(shape)).astype(np.float32)
            (y,) = session.run(None, {"features": x})
            tensors += [nh.from_array(x, f"in:features.{case}"), nh.from_array(y, f"out:logits.{case}")]
            print(name, case, y.shape, y.argmax(), np.sort(y[0])[-2:])
        if name == "frames":
            # What targets/firmware/src/bin/encode.rs makes on a board.
            count = np.arange(np.prod(shape), dtype=np.int64)
            pattern = ((count % 41 * 37 % 41 - 20) * 0.125).astype(np.float32).reshape(shape)
            (y,) = session.run(None, {"features": pattern})
            (HERE / "pattern.json").write_text(json.dumps({"logits": [float(x) for x in y[0]]}) + "\n")
        self.save_io(name, tensors)


def frames(width=32, heads=4):
    g = Graph(1)
    x = g.node("Transpose", ["features"], perm=[0, 2, 1])
    x = g.node("Gelu", [g.conv(x, 40, width, [3], [1], [1])])
    x = g.node("Gelu", [g.conv(x, width, width, [3], [2], [1])])
    x = g.node("Transpose", [x], perm=[0, 2, 1])
    x = g.node("Concat", [g.random(1, 1, width, scale=0.1), x], axis=1)
    x = g.node("Add", [x, g.random(1, 26, width, scale=0.1)])
    for _ in range(2):
        x = g.layer(x, width, heads, 2 * width, bits=8)
    x = g.norm(g.node("Gather", [x, g.const(np.array(0, np.int64))], axis=1), width)
    g.linear(x, width, CLASSES, output="logits")
    g.save("frames", [1, 49, 40])


def patches(width=32, heads=2):
    g = Graph(2)
    x = g.conv("features", 1, width, [16, 16], [10, 10], [0, 0])
    x = g.node("Reshape", [x, g.integers(0, width, -1)])
    x = g.node("Transpose", [x], perm=[0, 2, 1])
    x = g.node("Add", [x, g.random(1, 27, width, scale=0.3)])
    x = g.layer(x, width, heads, 2 * width, bits=None)
    x = g.node("ReduceMean", [x, g.integers(1)], keepdims=0)
    g.linear(x, width, CLASSES, output="logits")
    g.save("patches", [1, 1, 40, 98])


def classifier(width=32, heads=4, vocabulary=64, positions=16):
    g = Graph(3)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    inputs = [h.make_tensor_value_info(name, T.INT64, ["batch", "sequence"]) for name in names]
    length = g.node("Shape", ["input_ids"], start=1, end=2)
    x = g.node("Gather", [g.random(vocabulary, width, scale=1), "input_ids"])
    x = g.node("Add", [x, g.node("Gather", [g.random(2, width, scale=0.3), "token_type_ids"])])
    zero, one = g.integers(0), g.integers(1)
    x = g.node("Add", [x, g.node("Slice", [g.random(positions, width, scale=0.3), zero, length, zero])])
    x = g.norm(x, width)
    keep = g.node("Unsqueeze", [g.node("Cast", ["attention_mask"], to=T.BOOL), g.integers(1, 2)])
    mask = g.node("Expand", [keep, g.node("Concat", [one, one, length, one], axis=0)])
    for _ in range(2):
        x = g.layer(x, width, heads, 2 * width, 8, [mask])
    x = g.node("Gather", [x, g.const(np.array(0, np.int64))], axis=1)
    g.linear(g.node("Tanh", [g.linear(x, width, width)]), width, CLASSES, output="logits")
    session = g.session("classifier", inputs, "batch")
    tensors = []
    for case, count in enumerate([1, 5, 12, positions]):
        ids = g.rng.integers(0, vocabulary, (1, count))
        (y,) = session.run(None, dict(zip(names, [ids, np.ones_like(ids), np.zeros_like(ids)])))
        tensors += [nh.from_array(ids, f"in:input_ids.{case}"), nh.from_array(y, f"out:logits.{case}")]
        print("classifier", case, y.shape, y.argmax(), np.sort(y[0])[-2:])
    g.save_io("classifier", tensors)


frames()
patches()
classifier()
