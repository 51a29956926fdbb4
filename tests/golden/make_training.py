"""Makes `training/`: the loss and the gradients that torch, transformers and peft get from one training step.

Run once, by hand, when a trainable architecture or kind of adapter is added:  python make_training.py
Needs torch 2.9.1, transformers 5.23.0, peft 0.21.2, safetensors. The tests need none of them.

Every case is a folder of `training/` with `expected.safetensors`: `loss`, and the gradient of each trained parameter under
the name it has in its file. A case with an adapter is also a PEFT folder. Base models are the folders made by `make.py`.
The step is the sum of the weighted cross entropies of EXAMPLES, each run by itself in f64; the batch that packs them into
rows is the test's own. `batch.safetensors` holds the examples.
"""

import shutil
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BertForSequenceClassification, BertModel

HERE = Path(__file__).parent
OUT = HERE / "training"
LENGTHS = [10, 6, 13]
VOCAB = 128


def sentences(seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, VOCAB, (length,), generator=generator) for length in LENGTHS]


def examples():
    """Token ids, and the weight of each place's target; the last place predicts nothing."""
    generator = torch.Generator().manual_seed(1)
    for length in LENGTHS:
        ids = torch.randint(3, VOCAB, (length,), generator=generator)
        weights = torch.ones(length, dtype=torch.float64)
        weights[: length // 3] = 0  # a prompt
        weights[-2] = 0.5
        weights[-1] = 0
        yield ids, weights


def step(model, scale=None):
    """Loss and gradients of all examples."""
    model.double()
    model.train()
    model.zero_grad()
    total = 0
    for ids, weights in examples():
        if scale is None:
            logits = model(input_ids=ids[None]).logits[0]
        else:
            logits = model(inputs_embeds=model.get_input_embeddings()(ids[None]) * scale).logits[0]
        losses = F.cross_entropy(logits[:-1], ids[1:], reduction="none")
        total = total + (losses * weights[:-1]).sum()
    total.backward()
    return total.detach()


def save(name, model, loss, rename):
    found = {"loss": loss.reshape(1)}
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            found[rename(key)] = parameter.grad
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "expected.safetensors"
    save_file({key: value.float().contiguous() for key, value in found.items()}, path)
    print(f"{name}: loss {loss.item():.6f}, {len(found) - 1} gradients, {path.stat().st_size / 1024:.0f} KiB")


def base(name):
    return AutoModelForCausalLM.from_pretrained(HERE / name, dtype=torch.float32, attn_implementation="eager")


def undropped(model):
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def full(name):
    model = undropped(base(name))
    loss = step(model)
    save(f"full-{name}", model, loss, lambda key: key)


def sinusoidal():
    """Positions are a fixed table and embeddings are scaled: see make.py."""
    model = undropped(base("gpt2"))
    weights = load_file(HERE / "sinusoidal" / "model.safetensors")
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected and set(missing) == {"transformer.wpe.weight", "lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    position = torch.arange(64, dtype=torch.float64)[:, None]
    angle = position / 10000 ** (torch.arange(0, 32, 2, dtype=torch.float64) / 32)
    table = torch.stack([angle.sin(), angle.cos()], dim=-1).reshape(64, 32)
    model.transformer.wpe.weight.data = table.float()
    model.transformer.wpe.weight.requires_grad = False
    loss = step(model, scale=32**0.5)
    save("full-sinusoidal", model, loss, lambda key: key)


def adapter(name, base_name, **settings):
    torch.manual_seed(3)
    config = LoraConfig(task_type="CAUSAL_LM", **settings)
    model = get_peft_model(undropped(base(base_name)), config)
    for key, parameter in model.named_parameters():
        if "lora_B" in key:
            parameter.data = torch.randn_like(parameter) * 0.2
        elif "lora_magnitude" in key:
            parameter.data *= 1 + 0.1 * torch.randn_like(parameter)
    folder = OUT / name
    with tempfile.TemporaryDirectory() as saved:
        model.save_pretrained(saved)
        folder.mkdir(parents=True, exist_ok=True)
        for file in ["adapter_config.json", "adapter_model.safetensors"]:
            shutil.copy(Path(saved) / file, folder / file)
    text = (folder / "adapter_config.json").read_text()
    (folder / "adapter_config.json").write_text(text.replace(str(HERE / base_name), base_name))
    loss = step(model)
    save(name, model, loss, lambda key: key.replace(".default.weight", "" if "magnitude" in key else ".weight"))


def pairs(name, pool):
    """In-batch softmax over 20 times the cosines: MultipleNegativesRankingLoss of sentence-transformers."""
    model = undropped(BertModel.from_pretrained(HERE / name, dtype=torch.float32, attn_implementation="eager", add_pooling_layer=False))
    model.double()
    model.train()
    left, right = (
        torch.stack([F.normalize(pool(model(input_ids=ids[None]).last_hidden_state[0]), dim=0) for ids in sentences(seed)])
        for seed in (1, 2)
    )
    loss = F.cross_entropy(20 * left @ right.T, torch.arange(len(LENGTHS)), reduction="sum")
    loss.backward()
    save(f"pairs-{name}", model, loss.detach(), lambda key: key)


def classes(name, base):
    """Cross entropy of the classes 0, 1, 2 of three texts."""
    model = undropped(BertForSequenceClassification.from_pretrained(HERE / base, dtype=torch.float32, attn_implementation="eager"))
    model.double()
    model.train()
    logits = torch.cat([model(input_ids=ids[None]).logits for ids in sentences(1)])
    loss = F.cross_entropy(logits, torch.arange(len(LENGTHS)), reduction="sum")
    loss.backward()
    save(name, model, loss.detach(), lambda key: key.removeprefix("bert."))


if __name__ == "__main__":
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    listed = list(examples())
    tensors = {f"ids.{i}": ids for i, (ids, _) in enumerate(listed)}
    tensors |= {f"weights.{i}": weights.float() for i, (_, weights) in enumerate(listed)}
    tensors |= {f"left.{i}": ids for i, ids in enumerate(sentences(1))}
    tensors |= {f"right.{i}": ids for i, ids in enumerate(sentences(2))}
    save_file(tensors, OUT / "batch.safetensors")
    for name in ["llama", "qwen3", "gpt2"]:
        full(name)
    sinusoidal()
    adapter("lora-llama", "llama", r=4, lora_alpha=6, target_modules=["q_proj", "v_proj", "down_proj"])
    adapter("dora-llama", "llama", r=4, lora_alpha=6, use_dora=True, use_rslora=True, target_modules="all-linear")
    adapter("lora-qwen2", "qwen2", r=3, lora_alpha=6, target_modules="all-linear")
    adapter("dora-gpt2", "gpt2", r=4, lora_alpha=8, use_dora=True, fan_in_fan_out=True, target_modules=["c_attn", "c_fc"])
    pairs("bert-mean", lambda states: states.mean(0))
    pairs("bert-cls", lambda states: states[0])
    classes("classes-bert", "bert-labels")
