#!/usr/bin/env python3
"""Exports a small BERT the ways that PyTorch has, and what ONNX Runtime says of each: `bert_*.onnx` and `bert_*.io` beside this file.

    python tests/foreign/torch_bert.py          needs torch 2.9, transformers 5, onnxscript, onnx, onnxruntime 1.32

Random weights, fixed seed. With `--model FOLDER --out FOLDER` it exports a real checkpoint in the same ways instead, to measure.
"""
import argparse
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import numpy_helper as nh
from transformers import BertConfig, BertModel

HERE = Path(__file__).parent
NAMES = ["input_ids", "attention_mask", "token_type_ids"]
# Name, how transformers computes attention, opset of the exporter that traces (0: the exporter that came after it).
WAYS = [("bert_opset11", "eager", 11), ("bert_opset14", "sdpa", 14), ("bert_dynamo", "sdpa", 0)]


class Encoder(torch.nn.Module):
    """What sentence encoders take and give."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, token_type_ids):
        return self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).last_hidden_state


def small(attention):
    torch.manual_seed(7)
    config = BertConfig(vocab_size=24, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
                        max_position_embeddings=16, attn_implementation=attention)
    model = BertModel(config, add_pooling_layer=False)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3 + ("LayerNorm.weight" in name))
    return model


def export(model, attention, opset, path, inputs, longest):
    model = Encoder(model).eval()
    common = dict(input_names=NAMES, output_names=["last_hidden_state"])
    if opset:
        axes = {name: {0: "batch", 1: "sequence"} for name in [*NAMES, "last_hidden_state"]}
        torch.onnx.export(model, inputs, path, dynamic_axes=axes, opset_version=opset, dynamo=False, **common)
    else:
        batch, sequence = torch.export.Dim("batch", min=2, max=64), torch.export.Dim("sequence", min=2, max=longest)
        torch.onnx.export(model, inputs, path, dynamic_shapes={name: {0: batch, 1: sequence} for name in NAMES}, dynamo=True,
                          external_data=False, **common)
        # Doc strings hold the exporter's stack traces, many times the rest.
        slim = onnx.load(path)
        for node in slim.graph.node:
            node.doc_string = ""
            del node.metadata_props[:]
        onnx.save(slim, path)


def save_io(path, feed):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    found = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, feed)[0]
    arrays = {**{f"in:{name}": array for name, array in feed.items()}, "out:last_hidden_state": found}
    tensors = [nh.from_array(np.ascontiguousarray(array), name) for name, array in arrays.items()]
    output = onnx.helper.make_tensor_value_info(tensors[0].name, tensors[0].data_type, None)
    graph = onnx.helper.make_graph([], path.stem, [], [output], tensors)
    onnx.save(onnx.helper.make_model(graph, ir_version=10), path.with_suffix(".io"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--out", type=Path, default=HERE)
    args = parser.parse_args()
    torch.manual_seed(8)
    tokens = torch.randint(0, 24, (2, 7))
    mask = torch.ones(2, 7, dtype=torch.long)
    mask[1, 5:] = 0
    types = torch.zeros(2, 7, dtype=torch.long)
    types[:, 4:] = 1
    inputs = (tokens, mask, types)
    for name, attention, opset in WAYS:
        path = args.out / f"{name}.onnx"
        if args.model:
            model = BertModel.from_pretrained(args.model, attn_implementation=attention, add_pooling_layer=False)
            export(model, attention, opset, path, inputs, 512)
        else:
            export(small(attention), attention, opset, path, inputs, 16)
            save_io(path, dict(zip(NAMES, (tensor.numpy() for tensor in inputs))))


if __name__ == "__main__":
    main()
