"""Texts of people and of the built-in world that the checks of engines' answers would refuse: false rejections.

    python benchmarks/answer_checks.py [--shared ../shared]

Captions of COCO (English), CoMMuTE (German and Russian), Multi30K where it is there, and the captions of the built-in
world in its six languages. A reason is printed with its share and its first text.

`cut off` is looked for in texts of several sentences. It is measured on paragraphs of three texts of a set that end
with a mark: how many whole ones are refused, and how many of those whose last word and mark were taken away are found.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

from polyglance.data.answers import clean_answer, find_answer_flaw
from polyglance.data.sentences import add_end_mark
from polyglance.data.world.grammars import grammar
from polyglance.data.world.scene import sample_scene
from polyglance.files import read_text


def main() -> None:
    """Print the share of each reason."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    shared = parser.parse_args().shared / "data"
    texts: dict[tuple[str, str], list[str]] = defaultdict(list)
    for line in (shared / "emoji" / "captions.jsonl").read_text().splitlines():
        for code, text in json.loads(line)["texts"].items():
            texts["names of emoji", code].append(text)
    for path in sorted((shared / "eval").rglob("*.json")):
        _add_annotations(json.loads(path.read_text()), texts[path.stem, "en"])
    for path in sorted((shared / "eval").rglob("*.*")):
        name = path.name.removesuffix(".gz")
        if name[-3:] in (".en", ".de", ".fr", ".cs", ".ru"):
            texts[name.partition(".")[0], name[-2:]] += read_text(path).splitlines()
    scenes = [sample_scene("full", 0, index) for index in range(1000)]
    for code in ("en", "de", "fr", "es", "ru", "zh"):
        texts["world, short", code] += [grammar(code).short(scene) for scene in scenes]
    for (name, code), of_set in texts.items():
        if of_set:
            _report(name, code, of_set)
            _report_cut_off(code, of_set)


def _add_annotations(values: object, texts: list[str]) -> None:
    if isinstance(values, dict) and isinstance(values.get("annotations"), list):
        texts += [row["caption"] for row in values["annotations"] if "caption" in row]


def _report(name: str, code: str, texts: list[str]) -> None:
    refused: dict[str, list[str]] = defaultdict(list)
    for text in texts:
        if flaw := find_answer_flaw(clean_answer(text), code):
            refused[flaw].append(text)
    reasons = "; ".join(f"{flaw} {len(of):,} ({of[0]!r})" for flaw, of in sorted(refused.items()))
    num_refused = sum(map(len, refused.values()))
    print(f"{name:<24} {code}  {len(texts):>6,} texts  {num_refused / len(texts):.3%} refused  {reasons}")


def _report_cut_off(code: str, texts: list[str]) -> None:
    whole = [text.strip() for text in texts if text.strip() and add_end_mark(text.strip(), code) == text.strip()]
    space = "" if code == "zh" else " "
    paragraphs = [space.join(whole[first : first + 3]) for first in range(0, len(whole) - 2, 3)]
    if not paragraphs:
        return
    cut = [text[: max(1, len(text) - 3)] if code == "zh" else text.rpartition(" ")[0] for text in paragraphs]
    shares = []
    for of_kind in (paragraphs, cut):
        flaws = [find_answer_flaw(clean_answer(text), code, style="paragraph") for text in of_kind]
        shares.append(sum(flaw == "cut off" for flaw in flaws) / len(of_kind))
    print(
        f"{'':<24} {code}  {len(paragraphs):>6,} paragraphs  {shares[0]:.3%} refused as cut off; "
        f"{shares[1]:.1%} found where the last word was taken away"
    )


if __name__ == "__main__":
    main()
