"""Checks exported model folders with onnx and ONNX Runtime, against golden results if there are some.

    python check_export.py FOLDER[=EXPECTED.safetensors[=WITH_ADAPTER.safetensors]]...

One line for each check; exit status 1 when one fails. f32 exports must meet the expected values to 1e-3; others must be as
close, relative to the size of the values, as their weights allow.
Needs onnx, onnxruntime, numpy, safetensors; with pyld the model's JSON-LD is expanded too.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from pyld import jsonld
from safetensors.numpy import load_file

ABSOLUTE = 1e-3
RELATIVE = {"f16": 0.01, "q8": 0.05, "q4": 0.5}
CHUNKS = ([7, 5, 12], [1, 22, 1], [1] * 24)


class Checks:
    def __init__(self):
        self.failed = 0
        self.model = ""

    def say(self, name, good, detail=""):
        print(f"{'ok  ' if good else 'FAIL'} {self.model}: {name} {detail}".rstrip(), flush=True)
        self.failed += not good

    def close(self, name, found, expected, weights):
        """Compares with the tolerance of the weights' format."""
        if found.shape != expected.shape:
            return self.say(name, False, f"shape {found.shape}, expected {expected.shape}")
        worst = float(np.abs(found - expected).max())
        if weights == "f32":
            return self.say(name, worst <= ABSOLUTE, f"largest difference {worst:.2e}")
        relative = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
        return self.say(name, relative <= RELATIVE[weights], f"relative difference {relative:.2e}")


def files(checks, folder, model):
    """External data stays in the folder, is aligned, and lies within its file; a tied embedding is there once."""
    size = (folder / "model.onnx.data").stat().st_size
    spans = set()
    for tensor in model.graph.initializer:
        place = {entry.key: entry.value for entry in tensor.external_data}
        if not place:
            continue
        offset, length = int(place["offset"]), int(place["length"])
        good = place["location"] == "model.onnx.data" and offset % 64 == 0 and offset + length <= size
        if not good:
            checks.say(f"external data of {tensor.name}", False, str(place))
        spans.add((offset, length))
    ordered = sorted(spans)
    apart = all(a[0] + a[1] <= b[0] for a, b in zip(ordered, ordered[1:]))
    checks.say("external data", apart, f"{len(spans)} tensors in {size} bytes")
    json.loads((folder / "config.json").read_text())


class Decoder:
    """A decoder session that keeps its cache between runs."""

    def __init__(self, session, batch=1, options=None):
        self.session = session
        self.options = options
        self.position = 0
        self.names = [output.name for output in session.get_outputs()]
        self.cache = {
            entry.name: np.zeros((batch, entry.shape[1], 0, entry.shape[3]), np.float32)
            for entry in session.get_inputs()
            if entry.name.startswith("past_key_values.")
        }

    def run(self, ids):
        positions = np.arange(self.position, self.position + ids.shape[1], dtype=np.int64)
        positions = np.repeat(positions[None], ids.shape[0], axis=0)
        inputs = {"input_ids": ids, "position_ids": positions, **self.cache}
        outputs = dict(zip(self.names, self.session.run(None, inputs, self.options)))
        self.cache = {
            name: outputs[name.replace("past_key_values", "present")] for name in self.cache
        }
        self.position += ids.shape[1]
        return outputs["logits"]


def decoder(checks, session, weights, expected):
    ids = expected["input_ids"] if expected else np.arange(24, dtype=np.int64)[None] * 7 % 100 + 3
    whole = Decoder(session).run(ids)
    if expected:
        checks.close("logits", whole, expected["logits"], weights)
    for chunks in CHUNKS:
        steps, start, parts = Decoder(session), 0, []
        for length in chunks:
            parts.append(steps.run(ids[:, start : start + length]))
            start += length
        name = "in chunks of " + ",".join(map(str, chunks)) if len(set(chunks)) > 1 else "token by token"
        checks.close(name, np.concatenate(parts, axis=1), whole, weights)
    both = np.concatenate([ids, ids[:, ::-1]])
    checks.close("two side by side", Decoder(session, batch=2).run(both)[:1], whole, weights)


def adapters(checks, session, folder, names, weights, expected):
    """ONNX Runtime fills the graph's slots from each adapter file, and without one it runs the base."""
    for name in names:
        adapter = onnxruntime.LoraAdapter()
        adapter.Load(str(folder / "adapters" / f"{name}.onnx_adapter"))
        options = onnxruntime.RunOptions()
        options.add_active_adapter(adapter)
        ids = expected["input_ids"]
        base = Decoder(session).run(ids)
        checks.close(f"with adapter {name}", Decoder(session, options=options).run(ids), expected["logits"], weights)
        steps = Decoder(session, options=options)
        parts = [steps.run(ids[:, i : i + 1]) for i in range(ids.shape[1])]
        checks.close(f"with adapter {name} token by token", np.concatenate(parts, axis=1), expected["logits"], weights)
        checks.say("without it again", np.array_equal(Decoder(session).run(ids), base))


def encoder(checks, session, weights, expected):
    if not expected:
        ids = np.arange(24, dtype=np.int64).reshape(2, 12) * 7 % 100 + 3
        mask = np.ones_like(ids)
        mask[1, 7:] = 0
        expected = {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids * 0}
    given = {entry.name: expected[entry.name] for entry in session.get_inputs()}
    outputs = dict(zip((o.name for o in session.get_outputs()), session.run(None, given)))
    alone = {name: value[1:, :7] for name, value in given.items()}
    if "logits" in outputs:
        if "logits" in expected:
            checks.close("logits", outputs["logits"], expected["logits"], weights)
        return checks.close("padding changes nothing", session.run(None, alone)[0], outputs["logits"][1:], weights)
    kept = expected["attention_mask"].astype(bool)
    states = outputs["last_hidden_state"]
    if "last_hidden_state" in expected:
        checks.close("states", states[kept], expected["last_hidden_state"][kept], weights)
    if "sentence_embedding" in expected:
        checks.close("sentences", outputs["sentence_embedding"], expected["sentence_embedding"], weights)
    checks.close("padding changes nothing", session.run(None, alone)[0], states[1:, :7], weights)


def card(checks, folder, metadata):
    """The card is JSON-LD that a processor expands without fetching anything and without losing a property."""
    text = json.loads((folder / "model.jsonld").read_text(encoding="utf-8"))
    checks.say("card is a model", text["@type"] == "fair4ml:MLModel")

    def refuse(url, options=None):
        raise ValueError(f"the card fetches {url}")

    def properties(value):
        if isinstance(value, list):
            return sum(map(properties, value))
        if not isinstance(value, dict):
            return 0
        return sum(1 + properties(v) for k, v in value.items() if not k.startswith("@"))

    jsonld.set_document_loader(refuse)
    (model,) = jsonld.expand(text)
    checks.say("card expands", model["@type"] == ["https://w3id.org/fair4ml/MLModel"])
    found, written = properties(model), properties(text)
    checks.say("card keeps every property", found == written, f"{found} of {written}")
    name = model["https://schema.org/name"][0]["@value"]
    checks.say("card names the base", metadata["furlong.base_model"] in name, name)
    quads = jsonld.to_rdf(text)["@default"]
    absolute = all(quad["predicate"]["value"].startswith("http") for quad in quads)
    checks.say("card as RDF", absolute and len(quads) >= written, f"{len(quads)} statements")


def check(checks, folder, expected, adapted):
    """All checks of one folder."""
    checks.model = folder.name
    path = folder / "model.onnx"
    try:
        onnx.checker.check_model(str(path), full_check=True)
        checks.say("onnx.checker", True)
    except Exception as error:  # whatever it is, it is the finding
        checks.say("onnx.checker", False, str(error).replace("\n", " "))
    model = onnx.load(str(path), load_external_data=False)
    files(checks, folder, model)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if (folder / "model.jsonld").exists():
        card(checks, folder, metadata)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    run = decoder if metadata["furlong.kind"] == "decoder" else encoder
    run(checks, session, metadata["furlong.weights"], expected)
    if adapted:
        names = [entry["name"] for entry in json.loads(metadata["furlong.adapters"])]
        adapters(checks, session, folder, names, metadata["furlong.weights"], adapted)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    checks = Checks()
    for argument in sys.argv[1:]:
        folder, *references = argument.split("=")
        expected, adapted = ([load_file(path) for path in references] + [None, None])[:2]
        check(checks, Path(folder), expected, adapted)
    sys.exit(1 if checks.failed else 0)


if __name__ == "__main__":
    main()
