"""PyTorch's side of `fine-tune/examples/train_step.rs`: the same models, the same batch, the same step.

    python train_step.py tiny [--lora 8] [--steps 10] [--threads 1]
    python train_step.py smollm2 --lora 8 --batch 2 [--steps 3]

    python train_step.py tiny --against ../../target/release/examples/train_step --rounds 5
runs both in turns, each in a process of its own, and prints medians and the ratio.

    python train_step.py smollm2 --lora 8 --device cuda --against … --against-device gpu
does so on a graphics card: PyTorch by way of CUDA, ours by way of Vulkan. Memory is then the card's, which nothing else should use.

Needs torch 2.9.1, transformers 5.23.0 and peft 0.21.2 in an environment of its own, on a graphics card nvidia-ml-py too; no test
needs them.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import threading
import time

SHAPES = {
    "tiny": dict(
        vocab_size=2048,
        hidden_size=128,
        intermediate_size=344,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
    ),
    "smollm2": dict(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
    ),
}


def step_times(arguments):
    import torch
    import torch.nn.functional as F
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)
    if arguments.model in SHAPES:
        model = LlamaForCausalLM(LlamaConfig(tie_word_embeddings=True, **SHAPES[arguments.model]))
    else:
        model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32)
    model.config.use_cache = False
    device = torch.device(arguments.device)
    model.to(device)
    if arguments.lora:
        from peft import LoraConfig, get_peft_model

        lora = LoraConfig(
            task_type="CAUSAL_LM",
            r=arguments.lora,
            lora_alpha=16,
            target_modules="all-linear",
            use_dora=arguments.dora,
        )
        model = get_peft_model(model, lora).to(device)
    model.train()
    if arguments.recompute:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable()
    vocabulary = model.config.vocab_size
    ids = torch.tensor(
        [[(i * 7919 + row * 104_729) % vocabulary for i in range(arguments.tokens)] for row in range(arguments.batch)],
        device=device,
    )
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=0.01)
    wall, cpu, losses = [], [], []
    for _ in range(arguments.steps + 1):
        start, cpu_start = time.perf_counter(), time.process_time()
        logits = model(input_ids=ids).logits
        loss = F.cross_entropy(logits[:, :-1].reshape(-1, vocabulary), ids[:, 1:].reshape(-1))
        del logits
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        losses.append(loss.item())
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - cpu_start)
    return {
        "step_s": statistics.median(wall[1:]),
        "step_cpu_s": statistics.median(cpu[1:]),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "first_loss": losses[0],
        "last_loss": losses[-1],
    }


class Card:
    """Watches how much of the first card's memory is used, beyond what was used at the start."""

    def __init__(self):
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        self.used = lambda: pynvml.nvmlDeviceGetMemoryInfo(handle).used >> 20
        self.start = self.peak = self.used()
        self.done = threading.Event()
        self.watcher = threading.Thread(target=self.watch, daemon=True)
        self.watcher.start()

    def watch(self):
        while not self.done.wait(0.02):
            self.peak = max(self.peak, self.used())

    def peak_mib(self):
        self.done.set()
        self.watcher.join()
        return self.peak - self.start


def in_turns(arguments):
    shared = [arguments.model, "--batch", str(arguments.batch), "--tokens", str(arguments.tokens)]
    shared += ["--steps", str(arguments.steps)]
    shared += ["--lora", str(arguments.lora)] if arguments.lora else []
    shared += ["--dora"] * arguments.dora + ["--recompute"] * arguments.recompute
    threads = str(arguments.threads)
    cards = arguments.device != "cpu"
    environment = os.environ | {"RAYON_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
    commands = {
        "furlong": [arguments.against, *shared, "--device", arguments.against_device or arguments.device],
        "torch": [sys.executable, __file__, *shared, "--threads", threads, "--device", arguments.device],
    }
    found = {name: [] for name in commands}
    for _ in range(arguments.rounds):
        for name, command in commands.items():
            card = Card() if cards else None
            output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
            found[name].append(json.loads(output.splitlines()[-1]))
            if card:
                found[name][-1]["peak_mib"] = card.peak_mib()
    medians = {
        name: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for name, runs in found.items()
    }
    medians["torch_over_furlong"] = {
        key: round(medians["torch"][key] / medians["furlong"][key], 3) for key in ["step_s", "step_cpu_s", "peak_mib"]
    }
    return medians


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--lora", type=int)
    parser.add_argument("--dora", action="store_true")
    parser.add_argument("--recompute", action="store_true")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="PyTorch's name: cpu or cuda")
    parser.add_argument("--against", help="the built example, to be run in turns with this script")
    parser.add_argument("--against-device", help="the example's name, if it is another: gpu")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    result = in_turns(arguments) if arguments.against else step_times(arguments)
    print(json.dumps(result, indent=2 if arguments.against else None))


if __name__ == "__main__":
    main()
