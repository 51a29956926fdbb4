"""How fast ONNX Runtime runs an exported decoder with one thread: CPU milliseconds a token, as JSON.

    python onnxruntime_speed.py MODEL_FOLDER PROMPT_TOKENS DECODED_TOKENS
"""

import json
import pathlib
import sys
import time

import numpy as np
import onnxruntime

folder, prompt, decoded = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
options.log_severity_level = 3
session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
outputs = [output.name for output in session.get_outputs()]
caches = {i.name: (i.shape[1], i.shape[3]) for i in session.get_inputs() if i.name.startswith("past_key_values.")}


def start():
    return {name: np.zeros((1, heads, 0, size), np.float32) for name, (heads, size) in caches.items()}


def extend(past, position, ids):
    feeds = {
        "input_ids": np.asarray([ids], np.int64),
        "position_ids": np.arange(position, position + len(ids), dtype=np.int64)[None],
        **past,
    }
    results = dict(zip(outputs, session.run(None, feeds)))
    return {name: results[name.replace("past_key_values.", "present.")] for name in past}


tokens = [1000 + index * 37 % 9000 for index in range(prompt)]
extend(start(), 0, tokens)
before = time.process_time()
past = extend(start(), 0, tokens)
prefill = time.process_time() - before

past = extend(start(), 0, tokens[:8])
before = time.process_time()
for step in range(decoded):
    past = extend(past, 8 + step, [4000])
decode = time.process_time() - before
print(json.dumps({"prefill": prefill / prompt * 1000, "decode": decode / decoded * 1000}))
