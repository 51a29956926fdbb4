"""Makes the seeds that the fuzz targets start from: one folder for each target, small valid files and a few hostile ones.

    python make.py        needs numpy, onnx, gguf, and the program `furlong` in the path

The seeds are committed; run this only to change them. Inputs that once broke a reader are added by hand.
"""

import json
import pathlib
import shutil
import subprocess
import tempfile

import gguf
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent
GOLDEN = HERE.parent / "golden"
TEXT = HERE.parent.parent / "runtime/engine/src/text/goldens"
RANDOM = np.random.default_rng(7)


def write(target, name, contents):
    folder = HERE / target
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(contents)


def graph(nodes, weights, inputs=("x",), outputs=("y",)):
    return helper.make_model(
        helper.make_graph(
            nodes,
            "seed",
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 8]) for n in inputs],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
            weights,
        ),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)],
        ir_version=8,
    )


def floats(name, *shape):
    return numpy_helper.from_array(RANDOM.standard_normal(shape).astype(np.float32), name)


def make_onnx():
    linear = graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Softmax", ["h"], ["y"], axis=-1)],
        [floats("w", 8, 4)],
    )
    write("onnx", "linear", linear.SerializeToString())
    shapes = graph(
        [
            helper.make_node("Shape", ["x"], ["s"]),
            helper.make_node("Reshape", ["x", "s"], ["r"]),
            helper.make_node("Transpose", ["r"], ["t"], perm=[1, 0]),
            helper.make_node("Concat", ["t", "t"], ["c"], axis=1),
            helper.make_node("Slice", ["c", "a", "b"], ["y"]),
        ],
        [numpy_helper.from_array(np.array([0]), "a"), numpy_helper.from_array(np.array([2]), "b")],
    )
    write("onnx", "shapes", shapes.SerializeToString())
    quantised = graph(
        [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "qs", "qz"]),
            helper.make_node("MatMulInteger", ["q", "w", "qz"], ["i"]),
            helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["f", "qs"], ["y"]),
        ],
        [numpy_helper.from_array(RANDOM.integers(-128, 127, (8, 4), np.int8), "w")],
    )
    write("onnx", "dynamic_int8", quantised.SerializeToString())
    branch = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["o"])],
        "branch",
        [],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT, None)],
    )
    condition = numpy_helper.from_array(np.array(True), "c")
    nested = graph(
        [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)], [condition]
    )
    write("onnx", "nested", nested.SerializeToString())
    for name in ["gqa_packed", "nbits_4_block32"]:
        shutil.copy(HERE.parent / "foreign" / f"{name}.onnx", HERE / "onnx" / name)


def make_external_data():
    def external(location, offset, length):
        weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[8, 4])
        weight.data_location = TensorProto.EXTERNAL
        for key, value in [("location", location), ("offset", offset), ("length", length)]:
            weight.external_data.add(key=key, value=str(value))
        return graph([helper.make_node("MatMul", ["x", "w"], ["y"])], [weight]).SerializeToString()

    write("external_data", "inside", external("model.onnx.data", 128, 128))
    write("external_data", "past_the_end", external("model.onnx.data", 4090, 128))
    write("external_data", "parent", external("../model.onnx.data", 0, 128))
    write("external_data", "absolute", external("/etc/passwd", 0, 128))
    write("external_data", "huge", external("model.onnx.data", 2**63 - 1, 2**63 - 1))


def make_gguf():
    folder = HERE / "gguf"
    folder.mkdir(exist_ok=True)
    for name, kind in [("f32", gguf.GGMLQuantizationType.F32), ("q8_0", gguf.GGMLQuantizationType.Q8_0)]:
        writer = gguf.GGUFWriter(folder / name, "llama")
        writer.add_context_length(64)
        writer.add_embedding_length(32)
        writer.add_block_count(1)
        writer.add_feed_forward_length(64)
        writer.add_head_count(2)
        writer.add_head_count_kv(1)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_rope_freq_base(10000.0)
        writer.add_vocab_size(40)
        tokens = ["<|endoftext|>"] + [chr(ord("!") + i) for i in range(39)]
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("smollm")
        writer.add_token_list(tokens)
        writer.add_token_types([3] + [1] * 39)
        writer.add_token_merges(["! \"", "# $"])
        writer.add_eos_token_id(0)
        writer.add_chat_template("{% for m in messages %}{{ m.content }}{% endfor %}")
        shapes = {
            "token_embd.weight": (40, 32),
            "output_norm.weight": (32,),
            "blk.0.attn_norm.weight": (32,),
            "blk.0.ffn_norm.weight": (32,),
            "blk.0.attn_q.weight": (32, 32),
            "blk.0.attn_k.weight": (16, 32),
            "blk.0.attn_v.weight": (16, 32),
            "blk.0.attn_output.weight": (32, 32),
            "blk.0.ffn_gate.weight": (64, 32),
            "blk.0.ffn_up.weight": (64, 32),
            "blk.0.ffn_down.weight": (32, 64),
        }
        for tensor, shape in shapes.items():
            values = RANDOM.standard_normal(shape).astype(np.float32)
            if len(shape) == 2 and kind != gguf.GGMLQuantizationType.F32:
                writer.add_tensor(tensor, gguf.quants.quantize(values, kind), raw_dtype=kind)
            else:
                writer.add_tensor(tensor, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def make_texts():
    for path in sorted(TEXT.glob("tokenizer_*.json")):
        golden = json.loads(path.read_text())
        tokenizer = golden.get("tokenizer", golden)
        write("tokenizer", path.stem.removeprefix("tokenizer_"), json.dumps(tokenizer).encode())
    for path in sorted(TEXT.glob("template_*.json")):
        golden = json.loads(path.read_text())
        write("template", path.stem.removeprefix("template_"), golden["template"].encode())
    write("template", "endless", b"{% for a in range(99999999) %}{{ a }}{% endfor %}")
    write("template", "recursion", b"{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}")


def make_data():
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Dim the light"}, {"role": "assistant", "content": "{}"}]
    lines = [
        {"prompt": "turn the heating off in the study, please", "completion": ' {"intent":"heating.off","room":"study"}'},
        {"messages": turns, "id": "chat"},
        {"text": "Ein Satz — mit Umlauten: äöü, 他说 🙂", "label": "de"},
        {"text": "a text of more than eight words that stands here twice or nearly so", "id": 7},
        {"text": "a text of more than eight words that stands here twice or nearly", "label": 3},
        {"prompt": "only a prompt"},
    ]
    answer = {"id": "1", "answer": "no", "reference": "yes", "ended": "stop", "prompt_tokens": 3, "tokens": 1, "seconds": 0.5}
    verdicts = [{"id": 1, "winner": "a"}, {"id": "2", "winner": "tie"}, {"id": "3", "winner": "b"}]
    for name, objects in {"examples": lines, "answers": [answer, {**answer, "id": "2", "loss": 1.5, "loss_tokens": 2}], "verdicts": verdicts}.items():
        write("data", name, "\n".join(json.dumps(line, ensure_ascii=False) for line in objects).encode())


def make_npz():
    folder = HERE / "npz"
    folder.mkdir(exist_ok=True)
    arrays = {
        "ids": np.arange(6).reshape(2, 3),
        "x": RANDOM.standard_normal((2, 4)).astype(np.float32),
        "h": np.ones(3, np.float16),
        "flags": np.array([True, False]),
    }
    np.savez(folder / "stored", **arrays)
    np.savez_compressed(folder / "deflated", **arrays)
    np.savez(folder / "fortran", f=np.asfortranarray(np.ones((2, 3))))
    np.savez_compressed(folder / "bomb", zeros=np.zeros(1 << 25, np.uint8))
    for path in folder.glob("*.npz"):
        path.rename(path.with_suffix(""))


def make_adapters():
    for target, file in [("adapter", "adapter_model.safetensors"), ("adapter_config", "adapter_config.json")]:
        (HERE / target).mkdir(exist_ok=True)
        shutil.copy(GOLDEN / "llama-lora" / file, HERE / target / "llama-lora")
    patterns = dict(
        peft_type="LORA",
        r=4,
        lora_alpha=6,
        use_rslora=True,
        rank_pattern={"q_proj": 4},
        alpha_pattern={"^model.layers.0.mlp.down_proj": 1},
        bias="none",
        init_lora_weights="gaussian",
    )
    write("adapter_config", "patterns", json.dumps(patterns).encode())


def make_plan():
    """Plans of each kind: the tiny chat model, a classifier with a WordPiece tokenizer, a keyword-spotting transformer."""
    (HERE / "plan").mkdir(exist_ok=True)
    tests = HERE.parent
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters), "!", ".", "é"]
    special = [{"id": i, "content": tokens[i], "special": True, "normalized": False, "single_word": False,
                "lstrip": False, "rstrip": False} for i in range(4)]
    around = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
              {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]
    tokenizer = {
        "version": "1.0",
        "added_tokens": special,
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": around, "pair": around,
                           "special_tokens": {t: {"id": t, "ids": [tokens.index(t)], "tokens": [t]} for t in tokens[2:4]}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": {token: i for i, token in enumerate(tokens)}},
    }
    with tempfile.TemporaryDirectory() as folder:
        encoder = pathlib.Path(folder)
        shutil.copy(tests / "encoders/classifier.onnx", encoder / "model.onnx")
        (encoder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
        for name, model, options in [
            ("decoder", tests.parent / "targets/linux/tests/data/tiny-chat", ["--context", "16", "--tile", "2"]),
            ("encoder", encoder, ["--context", "12"]),
            ("features", tests / "encoders/frames.onnx", []),
        ]:
            command = ["furlong", "plan", str(model), *options, "--out", str(HERE / "plan" / name)]
            subprocess.run(command, check=True)


def main():
    make_onnx()
    make_external_data()
    make_gguf()
    make_texts()
    make_data()
    make_npz()
    make_plan()
    (HERE / "safetensors").mkdir(exist_ok=True)
    shutil.copy(GOLDEN / "llama" / "model.safetensors", HERE / "safetensors" / "llama")
    make_adapters()


if __name__ == "__main__":
    main()
