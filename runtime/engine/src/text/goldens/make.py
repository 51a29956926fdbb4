"""Makes the golden files beside this script: what Hugging Face's own code makes of templates and texts.

    pip install transformers tokenizers jinja2
    python make.py [FOLDER OF *.jinja FILES]

The folder adds templates of published models (llama.cpp keeps a collection in models/templates); those named in KEEP become
golden files. Templates written out here are always there.
"""

import datetime
import json
import pathlib
import sys

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers.utils import chat_template_utils

HERE = pathlib.Path(__file__).parent
NOW = datetime.datetime(2025, 1, 15, 12, 34, 56)
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
KEEP = {"Qwen-Qwen2.5-7B-Instruct": "qwen2.5", "Qwen-Qwen3-0.6B": "qwen3"}

# SmolLM2's, as published.
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# What Llama 3's does, and the date of Llama 3.1's.
LLAMA3 = """{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: " + date_string + "\\n\\n" + system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
# Everything else that templates are known to use.
FEATURES = """{% macro show(x, kind="text") %}[{{ kind }}:{{ x }}]{% endmacro %}
{% if messages[0].role not in ['system', 'user'] %}
  {{ raise_exception('Conversation roles must start with system or user') }}
{% endif %}
{% set ns = namespace(count=0, last='') %}
{% for message in messages -%}
    {% if message.content is not string %}{% continue %}{% endif %}
    {%- set ns.count = ns.count + 1 %}
    {%- generation %}
    {{ show(message.content.strip().split('\\n')[0].upper(), kind=message['role'].title()) }}
    {%- endgeneration %}
    {% set ns.last = message.role %}
    {% if message.content.startswith('stop') %}{% break %}{% endif %}
{%+ endfor %}
{{ messages | map(attribute='role') | join(',') }} {{ ns.count }} {{ ns.last }}
{{ {"name": "f", "arguments": {"a": [1, 2.5, none, true], "é<": "\\"x\\" & 'y'"}} | tojson }}
{{ messages[0] | tojson(indent=2) }}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ (messages | last).content[::-1] }} {{ "%s-%02d" | format("a", 7) }}
{{ messages[-1]['content'].replace('a', 'b').rstrip() ~ 1 }} {{ tools is defined and tools }} {{ x | default('none') }}
{% for key, value in messages[0].items() %}{{ loop.index }}{{ key }}{{ ';' if not loop.last }}{% endfor %}
"""

CONVERSATIONS = [
    [{"role": "user", "content": "Hello!"}],
    [{"role": "system", "content": "  Be brief.\n"}, {"role": "user", "content": "Who <b>are</b> you & why?\n"}],
    [
        {"role": "user", "content": "一つ 🦀"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes."},
        {"role": "user", "content": "stop\nnow"},
        {"role": "assistant", "content": "ok"},
        {"role": "user", "content": "and?"},
    ],
    [{"role": "assistant", "content": "I speak first."}],
]


def render(template, messages, prompt):
    compiled = chat_template_utils._compile_jinja_template(template)
    compiled.environment.globals["strftime_now"] = NOW.strftime
    try:
        return compiled.render(messages=messages, add_generation_prompt=prompt, **TOKENS)
    except Exception:
        return None


def template_golden(template):
    cases = [
        {"messages": messages, "add_generation_prompt": prompt, "text": render(template, messages, prompt)}
        for messages in CONVERSATIONS
        for prompt in (True, False)
    ]
    return {"template": template, "tokens": TOKENS, "cases": cases}


def write(name, value):
    text = json.dumps(value, ensure_ascii=False, indent=1)
    (HERE / f"{name}.json").write_text(text + "\n", encoding="utf-8")


CORPUS = ["the quick brown fox jumps over the lazy dog", "it is a truth, universally acknowledged.", "日本語のテキスト", "crab 🦀"] * 3
TEXTS = [
    "the quick fox",
    " leading and  double  spaces ",
    "日本語 text, 🦀🏳️‍🌈 and e\u0301!",
    "line\n\tbreak\r\n",
    "<|im_start|>user\nhi<|im_end|>",
    "",
]


def byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def sentence_piece():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=special, show_progress=False, max_token_length=8)
    tokenizer.train_from_iterator(CORPUS[:2], trainer)
    file = json.loads(tokenizer.to_str())
    # The bytes are ordinary tokens; the trainer only knows how to add special ones.
    file["added_tokens"] = file["added_tokens"][:3]
    tokenizer = Tokenizer.from_str(json.dumps(file))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def word_piece():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def tokenizer_golden(tokenizer):
    cases = []
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=True).ids
        cases.append({"text": text, "ids": ids, "decoded": tokenizer.decode(ids)})
    return {"tokenizer": json.loads(tokenizer.to_str()), "cases": cases}


def compact(name, value):
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    (HERE / f"{name}.json").write_text(text + "\n", encoding="utf-8")


write("template_smollm2", template_golden(SMOLLM2))
write("template_llama3", template_golden(LLAMA3))
write("template_features", template_golden(FEATURES))
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.jinja")) if len(sys.argv) > 1 else []:
    if path.stem in KEEP:
        write(f"template_{KEEP[path.stem]}", template_golden(path.read_text(encoding="utf-8")))
compact("tokenizer_byte_level", tokenizer_golden(byte_level()))
compact("tokenizer_sentence_piece", tokenizer_golden(sentence_piece()))
compact("tokenizer_word_piece", tokenizer_golden(word_piece()))
