#!/usr/bin/env python3
"""Makes the small models of other people's dialects beside this file, and what ONNX Runtime says of them.

    python tests/foreign/make.py          needs numpy, onnx 1.23, onnxruntime 1.32

Random weights, fixed seed. `NAME.onnx` is a model, `NAME.io` holds what goes in and what must come out: an ONNX
file whose graph has no nodes, only initialisers called `in:INPUT` and `out:OUTPUT`; for a decoder also `tokens`
(int64 [tokens]) and `logits` (f32 [tokens, vocabulary]), of which the first `PREFILL` were read at once and the
others one by one.
"""
from pathlib import Path
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16

HERE = Path(__file__).parent
PREFILL, DECODE = 9, 5
MS = "com.microsoft"


class Graph:
    """Nodes and initialisers in the order they are added."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.weights, self.inputs, self.outputs = [], [], [], []

    def node(self, op, inputs, outputs=1, domain="", **attributes):
        name = f"{op}_{len(self.nodes)}"
        names = outputs if isinstance(outputs, list) else [f"{name}.{i}" for i in range(outputs)]
        self.nodes.append(h.make_node(op, inputs, names, name=name, domain=domain, **attributes))
        return names[0] if len(names) == 1 else names

    def const(self, array, name=None):
        name = name or f"w{len(self.weights)}"
        self.weights.append(nh.from_array(np.ascontiguousarray(array), name))
        return name

    def random(self, *shape, scale=None):
        scale = scale if scale is not None else 1 / np.sqrt(shape[0])
        return (self.rng.standard_normal(shape) * scale).astype(np.float32)

    def model(self, name):
        graph = h.make_graph(self.nodes, name, self.inputs, self.outputs, self.weights)
        opsets = [h.make_opsetid("", 21), h.make_opsetid(MS, 1)]
        model = h.make_model(graph, opset_imports=opsets, ir_version=10)
        onnx.save(model, HERE / f"{name}.onnx")
        options = ort.SessionOptions()
        options.log_severity_level = 3
        return ort.InferenceSession(str(HERE / f"{name}.onnx"), options, providers=["CPUExecutionProvider"])


def save_io(name, arrays):
    tensors = [nh.from_array(np.ascontiguousarray(a), k) for k, a in arrays.items()]
    output = h.make_tensor_value_info(tensors[0].name, tensors[0].data_type, None)
    graph = h.make_graph([], name, [], [output], tensors)
    onnx.save(h.make_model(graph, ir_version=10), HERE / f"{name}.io")


def pack(codes, bits):
    """uint8 codes along the last axis, 4-bit ones two a byte, low first, padded to a byte."""
    if bits == 8:
        return codes
    if codes.shape[-1] % 2:
        codes = np.concatenate([codes, np.zeros((*codes.shape[:-1], 1), np.uint8)], -1)
    return codes[..., ::2] | codes[..., 1::2] << 4


def linear(g, x, inputs, outputs, quant=None, bias=False):
    """A linear layer: f32 `MatMul`, or `MatMulNBits` with quant = (bits, block size, zero points)."""
    if quant is None:
        y = g.node("MatMul", [x, g.const(g.random(inputs, outputs))])
        return g.node("Add", [y, g.const(g.random(outputs, scale=0.1))]) if bias else y
    bits, block, zero = quant
    blocks = -(-inputs // block)
    top = 2**bits
    codes = g.rng.integers(0, top, (outputs, blocks, block)).astype(np.uint8)
    scales = (g.rng.uniform(0.5, 1.5, outputs * blocks) * 4 / top / np.sqrt(inputs)).astype(np.float32)
    names = [x, g.const(pack(codes, bits)), g.const(scales)]
    points = g.rng.integers(top // 2 - 2, top // 2 + 3, (outputs, blocks)).astype(np.uint8)
    if zero == "packed":
        names.append(g.const(pack(points, bits).reshape(-1)))
    elif zero == "float":
        names.append(g.const((points + g.rng.uniform(-0.5, 0.5, points.shape)).astype(np.float32).reshape(-1)))
    elif bias:
        names.append("")
    if bias:
        names += ["", g.const(g.random(outputs, scale=0.1))]
    return g.node("MatMulNBits", names, domain=MS, K=inputs, N=outputs, bits=bits, block_size=block)


def decoder(name, seed, *, layers=1, hidden=32, heads=2, kv_heads=1, ffn=16, vocab=16, quant=None, packed=False,
            rotary="fused", interleaved=0, rotary_share=1.0, head_norm=False, window=-1, softcap=0.0, bias=False,
            embedding="f32"):
    """A decoder as ONNX Runtime GenAI's builder writes it."""
    g = Graph(seed)
    dim = hidden // heads
    q_of = quant if callable(quant) else lambda _: quant
    g.inputs = [h.make_tensor_value_info("input_ids", T.INT64, ["batch_size", "sequence_length"]),
                h.make_tensor_value_info("attention_mask", T.INT64, ["batch_size", "total_sequence_length"])]
    if rotary == "node":
        g.inputs.append(h.make_tensor_value_info("position_ids", T.INT64, ["batch_size", "sequence_length"]))
    # The lengths, as GenAI computes them from the mask.
    one = g.const(np.array([1], np.int64))
    total = g.node("ReduceSum", ["attention_mask", one], keepdims=0)
    seqlens = g.node("Cast", [g.node("Sub", [total, one])], to=T.INT32)
    shape = g.node("Shape", ["attention_mask"])
    length = g.node("Cast", [g.node("Gather", [shape, g.const(np.array(1, np.int64))])], to=T.INT32)
    positions = 16
    turned = int(dim * rotary_share)
    angles = np.arange(positions)[:, None] / 100.0 ** (np.arange(0, turned, 2) / turned)[None]
    cos, sin = g.const(np.cos(angles).astype(np.float32), "cos_cache"), g.const(np.sin(angles).astype(np.float32), "sin_cache")

    if embedding == "f32":
        x = g.node("Gather", [g.const(g.random(vocab, hidden, scale=1)), "input_ids"])
    else:
        bits, block, zero = embedding
        blocks = hidden // block
        codes = g.rng.integers(0, 2**bits, (vocab, hidden)).astype(np.uint8)
        names = [g.const(pack(codes, bits)), "input_ids", g.const(g.rng.uniform(0.1, 0.3, (vocab, blocks)).astype(np.float32))]
        if zero:
            names.append(g.const(pack(g.rng.integers(5, 11, (vocab, blocks)).astype(np.uint8), bits)))
        x = g.node("GatherBlockQuantized", names, domain=MS, bits=bits, block_size=block, gather_axis=0, quantize_axis=1)
    gain = lambda width=hidden: g.const(g.rng.uniform(0.5, 1.5, width).astype(np.float32))
    normed = g.node("SimplifiedLayerNormalization", [x, gain()], axis=-1, epsilon=1e-5, stash_type=1)
    stream = x
    for layer in range(layers):
        past = [f"past_key_values.{layer}.{k}" for k in ("key", "value")]
        present = [f"present.{layer}.{k}" for k in ("key", "value")]
        for a, b in zip(past, present):
            g.inputs.append(h.make_tensor_value_info(a, T.FLOAT, ["batch_size", kv_heads, "past_sequence_length", dim]))
            g.outputs.append(h.make_tensor_value_info(b, T.FLOAT, ["batch_size", kv_heads, "total_sequence_length", dim]))
        if packed:
            q, k, v = linear(g, normed, hidden, hidden + 2 * kv_heads * dim, q_of("qkv"), bias), "", ""
        else:
            q = linear(g, normed, hidden, hidden, q_of("q"), bias)
            k = linear(g, normed, hidden, kv_heads * dim, q_of("k"), bias)
            v = linear(g, normed, hidden, kv_heads * dim, q_of("v"), bias)
        if head_norm:
            def per_head(value, width):
                value = g.node("Reshape", [value, g.const(np.array([0, -1, dim], np.int64))])
                value = g.node("SimplifiedLayerNormalization", [value, gain(dim)], axis=-1, epsilon=1e-6, stash_type=1)
                return g.node("Reshape", [value, g.const(np.array([0, -1, width], np.int64))])
            q, k = per_head(q, hidden), per_head(k, kv_heads * dim)
        if rotary == "node":
            turn = lambda value, count: g.node("RotaryEmbedding", [value, "position_ids", cos, sin], domain=MS, interleaved=interleaved,
                                               **({"num_heads": count, "rotary_embedding_dim": turned} if turned < dim else {}))
            q, k = turn(q, heads), turn(k, kv_heads)
        fused = rotary == "fused"
        inputs = [q, k, v, *past, seqlens, length] + ([cos, sin] if fused else [])
        attended = g.node("GroupQueryAttention", inputs, [f"attn.{layer}", *present], domain=MS, num_heads=heads, kv_num_heads=kv_heads,
                          do_rotary=int(fused), rotary_interleaved=interleaved if fused else 0, local_window_size=window, softcap=softcap)[0]
        o = linear(g, attended, hidden, hidden, q_of("o"))
        skip = lambda a, b: g.node("SkipSimplifiedLayerNormalization", [a, b, gain()], [f"n{len(g.nodes)}", "", "", f"s{len(g.nodes)}"], domain=MS, epsilon=1e-5)
        normed, _, _, stream = skip(stream, o)
        gate = linear(g, normed, hidden, ffn, q_of("gate"))
        up = linear(g, normed, hidden, ffn, q_of("up"))
        activated = g.node("Mul", [gate, g.node("Sigmoid", [gate])])
        down = linear(g, g.node("Mul", [activated, up]), ffn, hidden, q_of("down"))
        if layer + 1 < layers:
            normed, _, _, stream = skip(stream, down)
        else:
            normed = g.node("SkipSimplifiedLayerNormalization", [stream, down, gain()], 1, domain=MS, epsilon=1e-5)
    logits = linear(g, normed, hidden, vocab, q_of("head"))
    g.nodes[-1].output[0] = "logits"
    g.outputs.insert(0, h.make_tensor_value_info("logits", T.FLOAT, ["batch_size", "sequence_length", vocab]))
    assert logits
    session = g.model(name)

    tokens = g.rng.integers(0, vocab, PREFILL + DECODE)
    cache = {i.name: np.zeros((1, kv_heads, 0, dim), np.float32) for i in session.get_inputs() if i.name.startswith("past")}
    at, found = 0, []
    steps = {}
    for count in [PREFILL] + [1] * DECODE:
        feed = {"input_ids": tokens[None, at : at + count], "attention_mask": np.ones((1, at + count), np.int64), **cache}
        if rotary == "node":
            feed["position_ids"] = np.arange(at, at + count)[None]
        names = [o.name for o in session.get_outputs()]
        out = dict(zip(names, session.run(names, feed)))
        found.append(out["logits"][0])
        cache = {k: out[k.replace("past_key_values", "present")] for k in cache}
        at += count
        if count == 1 and not steps and name == "gqa_packed":
            steps = {**{f"in:{k}": v for k, v in feed.items()}, **{f"out:{k}": v for k, v in out.items()}}
    save_io(name, {"tokens": tokens, "logits": np.concatenate(found), **steps})


def encoder():
    """A small BERT-like encoder, and what ONNX Runtime's quantisers make of it."""
    g = Graph(9)
    hidden, heads, vocab, ffn = 16, 2, 20, 24
    dim = hidden // heads
    ids = ["batch", "sequence"]
    g.inputs = [h.make_tensor_value_info(n, T.INT64, ids) for n in ("input_ids", "attention_mask")]
    g.outputs = [h.make_tensor_value_info("last_hidden_state", T.FLOAT, [*ids, hidden])]
    x = g.node("Gather", [g.const(g.random(vocab, hidden, scale=1)), "input_ids"])
    mask = g.node("Unsqueeze", [g.node("Cast", ["attention_mask"], to=T.FLOAT), g.const(np.array([1, 2], np.int64))])
    hide = g.node("Mul", [g.node("Sub", [g.const(np.float32(1)), mask]), g.const(np.float32(-10))])
    norm = lambda v: g.node("LayerNormalization", [v, g.const(g.rng.uniform(0.5, 1.5, hidden).astype(np.float32)),
                                                   g.const(g.random(hidden, scale=0.1))], axis=-1, epsilon=1e-5)
    split, flat = g.const(np.array([0, 0, heads, dim], np.int64)), g.const(np.array([0, 0, hidden], np.int64))
    q, k, v = (g.node("Reshape", [linear(g, x, hidden, hidden, bias=True), split]) for _ in range(3))
    q, v = (g.node("Transpose", [a], perm=[0, 2, 1, 3]) for a in (q, v))
    k = g.node("Transpose", [k], perm=[0, 2, 3, 1])
    scores = g.node("Div", [g.node("MatMul", [q, k]), g.const(np.float32(np.sqrt(dim)))])
    weights = g.node("Softmax", [g.node("Add", [scores, hide])], axis=-1)
    attended = g.node("Reshape", [g.node("Transpose", [g.node("MatMul", [weights, v])], perm=[0, 2, 1, 3]), flat])
    x = norm(g.node("Add", [x, linear(g, attended, hidden, hidden, bias=True)]))
    up = linear(g, x, hidden, ffn, bias=True)
    erf = g.node("Erf", [g.node("Div", [up, g.const(np.float32(np.sqrt(2)))])])
    gelu = g.node("Mul", [g.node("Mul", [up, g.node("Add", [erf, g.const(np.float32(1))])]), g.const(np.float32(0.5))])
    norm(g.node("Add", [x, linear(g, gelu, ffn, hidden, bias=True)]))
    g.nodes[-1].output[0] = "last_hidden_state"
    g.model("encoder_f32")

    tokens = g.rng.integers(0, vocab, (2, 7))
    mask = np.ones((2, 7), np.int64)
    mask[1, 5:] = 0
    feed = {"input_ids": tokens, "attention_mask": mask}

    class Calibration(CalibrationDataReader):
        def __init__(self):
            self.rows = iter([feed] * 2)

        def get_next(self):
            return next(self.rows, None)

    def made(name):
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(str(HERE / f"{name}.onnx"), options, providers=["CPUExecutionProvider"])
        out = session.run(None, feed)[0]
        save_io(name, {**{f"in:{k}": v for k, v in feed.items()}, "out:last_hidden_state": out})

    source = HERE / "encoder_f32.onnx"
    # Shapes as another tool may leave them: true once, for another batch.
    stale = onnx.load(source)
    stale.graph.value_info.append(h.make_tensor_value_info(stale.graph.node[0].output[0], T.FLOAT, [1, 3, hidden]))
    stale.graph.value_info.append(h.make_tensor_value_info(scores, T.FLOAT, [1, heads, "s", "s"]))
    onnx.save(stale, source)
    # Off for the quantiser's own shape inference, which believes what it finds.
    clean = HERE / "clean.tmp.onnx"
    del stale.graph.value_info[:]
    onnx.save(stale, clean)
    for name, kind, per_channel in [("i8", QuantType.QInt8, False), ("u8_channel", QuantType.QUInt8, True)]:
        quantize_dynamic(clean, HERE / f"encoder_dynamic_{name}.onnx", weight_type=kind, per_channel=per_channel)
    quantize_static(clean, HERE / "encoder_qdq.onnx", Calibration(), quant_format=QuantFormat.QDQ, per_channel=True,
                    weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8)
    onnx.save(convert_float_to_float16(onnx.load(clean)), HERE / "encoder_f16.onnx")
    clean.unlink()
    for path in sorted(HERE.glob("encoder_*.onnx")):
        made(path.stem)


def main():
    encoder()
    decoder("gqa_packed", 1, layers=2, packed=True, bias=True)
    decoder("gqa_separate", 2, heads=1, rotary_share=0.5, interleaved=1, window=4, softcap=4.0, bias=True)
    decoder("gqa_rotary_node", 4, hidden=16, heads=1, rotary="node", head_norm=True)
    blocks = dict(hidden=64, heads=4, kv_heads=2, ffn=64)
    decoder("nbits_4_block32", 7, packed=True, quant=(4, 32, None), embedding=(4, 32, False), **blocks)
    mixed = {"q": (4, 16, "packed"), "k": (4, 64, "float"), "v": (4, 32, "packed"), "o": (4, 128, "packed"),
             "gate": (8, 32, None), "up": (8, 16, "packed"), "down": (4, 16, None), "head": (8, 64, "packed")}
    decoder("nbits_mixed", 8, quant=mixed.get, embedding=(4, 32, True), bias=False, **blocks)
    size = sum(p.stat().st_size for p in HERE.glob("*.*") if p.suffix in (".onnx", ".io"))
    print(f"{size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
