"""How fast ONNX Runtime embeds one sentence with one thread: CPU milliseconds, as JSON.

    python onnxruntime_encoder.py MODEL TOKENS [REPEAT]

MODEL is an encoder's folder or its .onnx file, f32 or quantised. The median of REPEAT runs counts (default 21).
"""

import json
import pathlib
import statistics
import sys
import time

import numpy as np
import onnxruntime

model, tokens = pathlib.Path(sys.argv[1]), int(sys.argv[2])
repeat = int(sys.argv[3]) if len(sys.argv) > 3 else 21
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
options.log_severity_level = 3
file = model / "model.onnx" if model.is_dir() else model
session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
ids = np.asarray([[1000 + index * 37 % 9000 for index in range(tokens)]], np.int64)
known = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
feeds = {given.name: known[given.name] for given in session.get_inputs()}
outputs = [output.name for output in session.get_outputs()]
wanted = ["sentence_embedding"] if "sentence_embedding" in outputs else outputs[:1]


def measure():
    before = time.process_time()
    session.run(wanted, feeds)
    return (time.process_time() - before) * 1000


for _ in range(3):
    measure()
print(json.dumps({"encode_cpu_ms": statistics.median(measure() for _ in range(repeat))}))
