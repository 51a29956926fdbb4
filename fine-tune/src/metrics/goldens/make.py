"""Makes sacrebleu.json: texts, and what sacreBLEU says of them.

    pip install sacrebleu==2.6.0 && python make.py

The texts are sacreBLEU's own test cases (test/test_bleu.py, test_sentence_bleu.py and test_chrf.py of its source package, Apache-2.0)
and some of ours with what those lack: other scripts, symbols, markup, odd white space, a longer corpus.
"""

import json
import random
from pathlib import Path

import sacrebleu
from sacrebleu.metrics import BLEU, CHRF

assert sacrebleu.__version__ == "2.6.0", sacrebleu.__version__

README = (
    ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."],
    [
        ["The dog bit the man.", "It was not unexpected.", "The man bit him first."],
        ["The dog had bit the man.", "No one was surprised.", "The man had bitten the dog."],
    ],
)
SENTENCE = (
    ["Producția de zahăr primă va fi exprimată în ceea ce privește zahărul alb;"],
    [["producţia de zahăr brut se exprimă în zahăr alb;"]],
)
NOTHING_SHARED = (["this is a cat"], [["okay thanks"]])
ODD = (
    ["The price is $1,234.56 (or 12-15 €)!", "&quot;Yes&quot; &amp; no <skipped> a-b\tc\u00a0d", "他说：“你好，世界。”", "a b c d", "x", "   "],
    [
        ["The price: $1,234.56, or 12-16 €.", "\"Yes\" & no a-b c d", "他说：“你好，世界！”", "a b c d e", "y", ""],
    ],
)
CZECH = (
    [
        "Co nás nejvíc trápí, protože lékaři si vybírají, kdo bude žít a kdo zemře.",
        "Nebo prostě nemají vybavení, které by jim pomohlo, uvedli lékaři.",
        "Lapali po dechu, jejich životy skončily dřív, než skutečně začaly.",
    ],
    [
        [
            "Nejvíce smutní jsme z toho, že musíme rozhodovat o tom, kdo bude žít a kdo zemře.",
            "A někdy nemáme ani potřebný materiál, abychom jim pomohli, popsali lékaři.",
            "Lapali po dechu a pak jejich život skončil - dřív, než skutečně mohl začít, připomněli.",
        ]
    ],
)
SHORT = [
    (["this is a test", "another test"], [["ref1", "ref2"]]),
    (["this is a test"], [["this is a test"]]),
    (["this is a fest"], [["this is a test"]]),
    (["am I am a character sequence"], [["I am a symbol string sequence a a"]]),
    (["test"], [["a test"]]),
    (["a test"], [["a test"]]),
    (["a little test"], [["a test"]]),
    (["", "", ""], README[1]),
]
CHRF_CASES = [
    (["abcdefg"], ["hijklmnop"]),
    (["a"], ["b"]),
    ([""], ["b"]),
    ([""], ["reference"]),
    (["aa"], ["ab"]),
    (["a", "b"], ["a", "c"]),
    (["a"], ["a"]),
    (["a b c"], ["a b c"]),
    (["a b c"], ["abc"]),
    (
        [" risk assessment must be made of those who are qualified and expertise in the sector - these are the scientists ."],
        ["risk assessment has to be undertaken by those who are qualified and expert in that area - that is the scientists ."],
    ),
    (
        [" Die    Beziehung zwischen  Obama und Netanjahu ist nicht gerade  freundlich. "],
        ["Das Verhältnis zwischen Obama und Netanyahu ist nicht gerade freundschaftlich."],
    ),
    (["Niemand hat die Absicht, eine Mauer zu errichten"], ["Niemand hat die Absicht, eine Mauer zu errichten"]),
]


TEXTS = []


def corpus():
    """Forty sentences, each with two references that are versions of it."""
    rng = random.Random(1)
    words = "the a light lamp in of to kitchen study, garden. turn dim on off forty 40% (now) please; it's 3.5".split()

    def changed(sentence):
        return " ".join(rng.choice(words) if rng.random() < 0.2 else word for word in sentence if rng.random() > 0.1)

    base = [[rng.choice(words) for _ in range(rng.randint(2, 20))] for _ in range(40)]
    return [changed(s) for s in base], [[changed(s) for s in base] for _ in range(2)]


def case(metric, options, texts):
    answers, references = texts
    made = (BLEU if metric == "bleu" else CHRF)(**options)
    if metric == "bleu":
        one = BLEU(**{**options, "effective_order": True})
    else:
        one = made
    each = [list(refs) for refs in zip(*references)]
    text = {"answers": answers, "references": each}
    if text not in TEXTS:
        TEXTS.append(text)
    return {
        "metric": metric,
        "options": options,
        "texts": TEXTS.index(text),
        "score": made.corpus_score(answers, references).score,
        "sentences": [one.sentence_score(a, r).score for a, r in zip(answers, each)],
    }


def main():
    cases = []
    for tokenize in ["none", "13a", "intl", "char"]:
        for texts in [README, SENTENCE, ODD, CZECH, corpus()]:
            cases.append(case("bleu", {"tokenize": tokenize}, texts))
            cases.append(case("bleu", {"tokenize": tokenize, "lowercase": True}, texts))
    for method, values in {"none": [None], "exp": [None], "floor": [0.01, 0.1, 0.5], "add-k": [1, 2]}.items():
        for value in values:
            for effective in [False, True]:
                for texts in [README, SENTENCE, NOTHING_SHARED, ODD, *SHORT]:
                    options = {"smooth_method": method, "smooth_value": value, "effective_order": effective}
                    cases.append(case("bleu", options, texts))
    for order in [1, 2, 3, 5, 6]:
        cases.append(case("bleu", {"max_ngram_order": order}, README))
    chrf = [(answers, [references]) for answers, references in CHRF_CASES]
    for texts in [README, SENTENCE, ODD, CZECH, corpus(), *chrf]:
        for word_order in [0, 2]:
            for extra in [{}, {"beta": 3, "eps_smoothing": True}, {"whitespace": True}, {"lowercase": True}]:
                cases.append(case("chrf", {"word_order": word_order, **extra}, texts))

    def lines(values):
        return "[\n" + ",\n".join(json.dumps(value, ensure_ascii=False) for value in values) + "\n]"

    text = f'{{"texts": {lines(TEXTS)}, "cases": {lines(cases)}}}\n'
    Path(__file__).with_name("sacrebleu.json").write_text(text, encoding="utf-8")


main()
