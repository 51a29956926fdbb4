"""What ONNX Runtime makes of an exported decoder: the judge of our greedy tokens and logits.

    python decoder_reference.py MODEL_FOLDER OUT.safetensors [--tokens 48]

Writes, for each prompt N of PROMPTS:
    prompt.N   i64 [prompt tokens]
    logits.N   f32 [vocabulary]      at the prompt's last position
    greedy.N   i64 [tokens]          the greedy continuation
"""

import argparse
import pathlib

import numpy as np
import onnxruntime
import safetensors.numpy
import tokenizers

PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a village by the sea, there lived a",
    "def fibonacci(n):\n    ",
    "Water boils at 100 degrees Celsius because",
    "List three uses of a paperclip:\n1.",
]


class Decoder:
    """An exported decoder with its cache, fed as many tokens at a time as the caller likes."""

    def __init__(self, folder):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self.outputs = [output.name for output in self.session.get_outputs()]
        self.past = {}
        for value in self.session.get_inputs():
            if value.name.startswith("past_key_values."):
                _, heads, _, size = value.shape
                self.past[value.name] = np.zeros((1, heads, 0, size), np.float32)
        self.length = 0

    def extend(self, ids):
        """Appends tokens; returns the logits of each, [tokens, vocabulary]."""
        positions = np.arange(self.length, self.length + len(ids), dtype=np.int64)
        feeds = {
            "input_ids": np.asarray(ids, np.int64)[None],
            "position_ids": positions[None],
            **self.past,
        }
        wanted = {value.name for value in self.session.get_inputs()}
        feeds = {name: value for name, value in feeds.items() if name in wanted}
        results = dict(zip(self.outputs, self.session.run(None, feeds)))
        for name in self.past:
            self.past[name] = results[name.replace("past_key_values.", "present.")]
        self.length += len(ids)
        return results["logits"][0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--tokens", type=int, default=48)
    arguments = parser.parse_args()

    tokenizer = tokenizers.Tokenizer.from_file(str(arguments.model / "tokenizer.json"))
    arrays = {}
    for index, prompt in enumerate(PROMPTS):
        decoder = Decoder(arguments.model)
        ids = tokenizer.encode(prompt).ids
        logits = decoder.extend(ids)[-1]
        arrays[f"prompt.{index}"] = np.asarray(ids, np.int64)
        arrays[f"logits.{index}"] = logits
        greedy = []
        for _ in range(arguments.tokens):
            greedy.append(int(logits.argmax()))
            logits = decoder.extend(greedy[-1:])[-1]
        arrays[f"greedy.{index}"] = np.asarray(greedy, np.int64)
        print(f"prompt {index}: {tokenizer.decode(greedy)!r}")
    safetensors.numpy.save_file(arrays, arguments.out)


if __name__ == "__main__":
    main()
