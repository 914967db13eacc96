"""Caption metrics side by side with pycocoevalcap: time, memory, and the largest difference of any image's score.

    OMP_NUM_THREADS=1 python benchmarks/caption_metrics.py [--peer-python .venv-peer/bin/python] [--repeat 3]

`--peer-python` is a Python that has pycocoevalcap (and Java on the path); nothing is installed here, and without it
only this project's figures are printed. Every run is a process of its own on one core. Timed is the work on texts in
memory, with the start of Java but without imports; CPU time counts Java's as well. Captions are made up: Zipf words,
phrases that come back, hypotheses and references of an image about the same few phrases.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

Texts = tuple[list[str], list[list[str]]]
"""Hypotheses and their references."""
Scores = dict[str, list[float]]
"""Score name -> values."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Texts and metrics of a run: `languages` sets of `images` with `references` each."""

    languages: int
    images: int
    references: int
    tokenized: bool
    """The texts are tokens already, so that the tokeniser is not part of the time."""
    metrics: tuple[str, ...]
    peer: bool = True
    """pycocoevalcap has these metrics."""


CAPTION_METRICS = ("cider", "bleu", "rouge")
WORKLOADS = {
    "CIDEr with tokenisation": Workload(languages=1, images=5_000, references=5, tokenized=False, metrics=("cider",)),
    "CIDEr of tokens": Workload(languages=1, images=25_000, references=4, tokenized=True, metrics=("cider",)),
    "CIDEr, BLEU, ROUGE-L": Workload(
        languages=36, images=3_600, references=2, tokenized=False, metrics=CAPTION_METRICS
    ),
    "BLEU, chrF of sacrebleu": Workload(
        languages=36, images=3_600, references=2, tokenized=True, metrics=("sacrebleu", "chrf"), peer=False
    ),
}

LETTERS = (
    ("bcdfghlmnprstv", "aeiou"),
    ("bdgklmnrstvzčšž", "aáeéiíoóöőuúü"),
    ("бвгджзклмнпрст", "аеиоуыя"),
    ("βγδζθκλμνπρστφ", "αεηιουω"),
    ("कखगचजटडतदनपबमरलसह", "ािीुेो"),
)
"""Consonants and vowels of the languages, in turn."""
NUM_WORDS, NUM_PHRASES = 12_000, 4_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", help="a Python with pycocoevalcap")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each; the fastest counts")
    parser.add_argument("--task", choices=WORKLOADS, action="append", help="only this one; may be given several times")
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)  # a child process: who, workload, texts, results
    options = parser.parse_args()
    if options.run:
        run(*options.run)
        return
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(f"{'':<26}{'sets x images x refs':>22}{'':>16}{'wall s':>9}{'CPU s':>9}{'peak MB':>9}")
    for name in options.task or WORKLOADS:
        compare(name, options.peer_python, options.repeat)


def compare(name: str, peer_python: str | None, repeat: int) -> None:
    """Run a workload in processes of both and print a line for each."""
    workload = WORKLOADS[name]
    pythons = {"polyglance": sys.executable}
    if peer_python and workload.peer:
        pythons["pycocoevalcap"] = peer_python
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder) / "texts.json"
        sets = [make_captions(workload, language) for language in range(workload.languages)]
        texts.write_text(json.dumps(sets), encoding="utf-8")
        runs: dict[str, list[dict[str, Any]]] = {who: [] for who in pythons}
        for _ in range(repeat):
            for who, python in pythons.items():  # in turn, so that a busy machine is busy for both
                results = Path(folder) / f"{who}.json"
                command = [python, __file__, "--run", who, name, str(texts), str(results)]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    sys.exit(f"{who} failed:\n{done.stderr}")
                runs[who].append(json.loads(results.read_text()))
    size = f"{workload.languages} x {workload.images:,} x {workload.references}"
    best = {
        who: {key: min(run[key] for run in rows) for key in ("wall_s", "cpu_s", "rss_mb")} for who, rows in runs.items()
    }
    for who, row in best.items():
        print(
            f"{name:<26}{size:>22}{who:>16}{row['wall_s']:>9.2f}{row['cpu_s']:>9.2f}{row['rss_mb']:>9.0f}", flush=True
        )
    if "pycocoevalcap" in best:
        wall, cpu = (best["pycocoevalcap"][key] / best["polyglance"][key] for key in ("wall_s", "cpu_s"))
        gap = largest_difference(runs["polyglance"][0]["scores"], runs["pycocoevalcap"][0]["scores"])
        print(f"{'':<26}{'times faster: wall':>22} {wall:.1f}, CPU {cpu:.1f}; largest difference of a score {gap:.1e}")


def largest_difference(ours: Scores, theirs: Scores) -> float:
    """Return the largest difference over all scores of all images and sets."""
    assert ours.keys() == theirs.keys(), (list(ours), list(theirs))
    return max(float(np.abs(np.array(ours[key]) - np.array(theirs[key])).max()) for key in ours)


def run(who: str, name: str, texts: str, results: str) -> None:
    """Read the texts, time the work and write times and scores. Runs in a child process."""
    workload = WORKLOADS[name]
    sets: list[Texts] = json.loads(Path(texts).read_text(encoding="utf-8"))
    scorer = (polyglance_scorer if who == "polyglance" else peer_scorer)(workload)
    start, start_cpu = time.perf_counter(), cpu_seconds()
    scores: Scores = {}
    for hypotheses, references in sets:
        for key, values in scorer(hypotheses, references).items():
            scores.setdefault(key, []).extend(values)
    result = {
        "wall_s": time.perf_counter() - start,
        "cpu_s": cpu_seconds() - start_cpu,
        "rss_mb": max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        / 1024,
        "scores": scores,
    }
    Path(results).write_text(json.dumps(result))


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of the children it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def polyglance_scorer(workload: Workload) -> Callable[[list[str], list[list[str]]], Scores]:
    """Return a function that computes this project's metrics, each from its statistics."""
    from polyglance.evaluate.metrics import make_metric

    metrics = [make_metric(name) for name in workload.metrics]
    tokenize = None if workload.tokenized else import_module("polyglance.evaluate.tokenization.ptb").PTB.tokenize

    def score(hypotheses: list[str], references: list[list[str]]) -> Scores:
        if tokenize is not None:
            tokens = iter(tokenize([*hypotheses, *(text for texts in references for text in texts)]))
            hypotheses = [next(tokens) for _ in hypotheses]
            references = [[next(tokens) for _ in texts] for texts in references]
        scores: Scores = {}
        for one in metrics:
            values = one.statistics(hypotheses, references).values
            corpus = one.scores(values.sum(axis=0), len(values))
            scores |= {key: [float(value)] for key, value in corpus.items()}
            scores |= {f"{key} of images": column.tolist() for key, column in one.scores(values, 1).items()}
        return scores

    return score


def peer_scorer(workload: Workload) -> Callable[[list[str], list[list[str]]], Scores]:
    """Return a function that calls pycocoevalcap as its own `COCOEvalCap` does."""
    classes = {"cider": ("cider.cider", "Cider"), "bleu": ("bleu.bleu", "Bleu"), "rouge": ("rouge.rouge", "Rouge")}
    modules = {name: import_module(f"pycocoevalcap.{classes[name][0]}") for name in workload.metrics}
    tokenizer = import_module("pycocoevalcap.tokenizer.ptbtokenizer").PTBTokenizer

    def tokenized(texts: list[list[str]]) -> dict[int, list[str]]:
        if workload.tokenized:
            return dict(enumerate(texts))
        return tokenizer().tokenize({i: [{"caption": text} for text in row] for i, row in enumerate(texts)})

    def score(hypotheses: list[str], references: list[list[str]]) -> Scores:
        gts, res = tokenized(references), tokenized([[text] for text in hypotheses])
        scores: Scores = {}
        for name, module in modules.items():
            options = {"verbose": 0} if name == "bleu" else {}
            total, per_image = getattr(module, classes[name][1])().compute_score(gts, res, **options)
            keys = (
                [f"Bleu_{n}" for n in range(1, 5)] if name == "bleu" else [{"cider": "CIDEr", "rouge": "ROUGE_L"}[name]]
            )
            if name != "bleu":
                total, per_image = [total], [per_image]
            scores |= {key: [float(value)] for key, value in zip(keys, total, strict=True)}
            scores |= {f"{key} of images": list(map(float, row)) for key, row in zip(keys, per_image, strict=True)}
        return scores

    return score


def make_captions(workload: Workload, language: int) -> Texts:
    """Make the captions of one set: 6 to 16 words, two or three phrases of the image's few and words between them."""
    rng = random.Random(f"{language} {workload.images}")
    words = make_words(rng, LETTERS[language % len(LETTERS)])
    phrases = [" ".join(rng.choices(words[:3000], k=rng.randint(2, 4))) for _ in range(NUM_PHRASES)]
    word_weights, phrase_weights = zipf_weights(NUM_WORDS), zipf_weights(NUM_PHRASES)
    texts = []
    for _ in range(workload.images):
        topic = rng.choices(phrases, cum_weights=phrase_weights, k=6)
        row = []
        for _ in range(workload.references + 1):
            extra = rng.choices(words, cum_weights=word_weights, k=rng.randint(2, 4))
            parts = [*rng.sample(topic, rng.randint(2, 3)), *extra]
            rng.shuffle(parts)
            row.append(" ".join(parts))
        texts.append(row if workload.tokenized else [write_out(text, rng) for text in row])
    return [row[0] for row in texts], [row[1:] for row in texts]


def make_words(rng: random.Random, letters: tuple[str, str]) -> list[str]:
    """Make different words of one to four syllables, the short ones first, as frequent words are."""
    syllables = [consonant + vowel for consonant in letters[0] for vowel in letters[1]]
    words = {"".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(3 * NUM_WORDS)}
    return sorted(words, key=lambda word: (len(word), word))[:NUM_WORDS]


def zipf_weights(num: int) -> list[float]:
    """Return cumulated weights: the i-th item is drawn with a chance proportional to 1 / i."""
    return list(accumulate(1 / rank for rank in range(1, num + 1)))


def write_out(text: str, rng: random.Random) -> str:
    """Return the text as people write it: a capital, some commas, hyphens and possessives, mostly a full stop."""
    words = text.split()
    for place in range(len(words) - 1):
        chance = rng.random()
        words[place] += "," if chance < 0.03 else "'s" if chance < 0.04 else f"-{words[place]}" if chance < 0.05 else ""
    return " ".join(words).capitalize() + ("." if rng.random() < 0.7 else "")


if __name__ == "__main__":
    main()
