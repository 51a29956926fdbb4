"""Makes graph.onnx: `sum = a + b` for f32 of any length, and `twice = 2 * n` for i64.

    pip install onnx
    python make_graph.py
"""

import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

value = helper.make_tensor_value_info
nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Mul", ["n", "two"], ["twice"])]
graph = helper.make_graph(
    nodes,
    "graph",
    [value("a", TensorProto.FLOAT, ["rows", 2]), value("b", TensorProto.FLOAT, [2]), value("n", TensorProto.INT64, [3])],
    [value("sum", TensorProto.FLOAT, ["rows", 2]), value("twice", TensorProto.INT64, [3])],
    [numpy_helper.from_array(np.array(2), "two")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.checker.check_model(model, full_check=True)
onnx.save(model, pathlib.Path(__file__).parent / "graph.onnx")
