"""How fast ONNX Runtime runs an exported decoder: milliseconds a token, on the processors and on the clock, as JSON.

    python onnxruntime_speed.py MODEL_FOLDER PROMPT_TOKENS DECODED_TOKENS THREADS
"""

import json
import pathlib
import sys
import time

import numpy as np
import onnxruntime

folder = pathlib.Path(sys.argv[1])
prompt, decoded, threads = map(int, sys.argv[2:5])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = threads
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


def measure(work):
    """The result of some work, and its milliseconds on the processors and on the clock."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    return result, (time.process_time() - cpu) * 1000, (time.perf_counter() - wall) * 1000


def decode(past):
    for step in range(decoded):
        past = extend(past, 8 + step, [4000])


tokens = [1000 + index * 37 % 9000 for index in range(prompt)]
extend(start(), 0, tokens)
_, prefill_cpu, prefill_wall = measure(lambda: extend(start(), 0, tokens))
past = extend(start(), 0, tokens[:8])
_, decode_cpu, decode_wall = measure(lambda: decode(past))
print(
    json.dumps(
        {
            "prefill_cpu_ms": prefill_cpu / prompt,
            "prefill_ms": prefill_wall / prompt,
            "decode_cpu_ms": decode_cpu / decoded,
            "decode_ms": decode_wall / decoded,
        }
    )
)
