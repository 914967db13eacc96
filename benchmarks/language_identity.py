"""Languages of right texts that are recognised, by kind of text: polyglance, py3langid, and word counts.

    python benchmarks/language_identity.py [--shared ../shared] [--lingua DIR] [--annotations DIR] [--xm3600 FILE]

Texts: names of emoji and captions of ../shared; where they are given, the test texts of lingua in all languages of
XM3600 but Quechua (`language-models/*/testdata` of github.com/pemistahl/lingua-rs), names of signs and emoji in all of
them (`annotations/` of the npm package cldr-annotations-full) and XM3600 itself (its captions.jsonl). Clauses are the
last ten words of lingua's sentences.

The first table has the languages of each kind of text at hand, without a corpus; py3langid is limited to the same
languages. The second one is a study's: four fifths of the names are its corpus, the others are identified; word counts
are naive Bayes over words, as studies did before. The third one is what `score` and `data audit` say of right texts,
of texts that were asked for in another language, and of texts that go on in English.
"""

import argparse
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from math import log
from pathlib import Path

from py3langid.langid import MODEL_FILE
from py3langid.langid import LanguageIdentifier as Library

from polyglance.files import read_text
from polyglance.language_identity import LanguageIdentifier, are_close, find_foreign_part, judge_language
from polyglance.languages import LANGUAGES, XM3600_LANGUAGES

Texts = Mapping[str, list[str]]
_NUM_TEXTS = 400
"""Texts of each language and kind that are drawn."""
_OTHER_CODES = {"fil": "tl", "quz": "qu"}
_LINGUA_CODES = {"fil": "tl", "no": "nb"}
_ANNOTATION_CODES = {"quz": "qu"}


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--lingua", type=Path)
    parser.add_argument("--annotations", type=Path)
    parser.add_argument("--xm3600", type=Path)
    options = parser.parse_args()
    kinds: dict[str, Texts] = _read_shared(options.shared / "data")
    emoji = kinds["names of emoji"]
    if options.lingua is not None:
        kinds |= _read_lingua(options.lingua)
    if options.annotations is not None:
        kinds["names"] = _read_annotations(options.annotations)
    if options.xm3600 is not None:
        kinds["captions of XM3600"] = _read_xm3600(options.xm3600)
    _compare_without_corpus({kind: _draw(texts, _NUM_TEXTS) for kind, texts in kinds.items()})
    _compare_with_corpus({"names of emoji": emoji} | ({"names": kinds["names"]} if "names" in kinds else {}))
    _judge({kind: _draw(texts, _NUM_TEXTS) for kind, texts in kinds.items()})


def _compare_without_corpus(kinds: Mapping[str, Texts]) -> None:
    print(f"{'languages at hand, no corpus':<32} languages  letters  py3langid  polyglance  lowest       ms a text")
    for kind, texts in kinds.items():
        library = _limit_library(texts)
        identifier = LanguageIdentifier(texts)
        start = time.process_time()
        found = _measure(identifier.identify, texts)
        seconds = time.process_time() - start
        lowest = min(found, key=lambda code: found[code])
        num_texts = sum(map(len, texts.values()))
        letters = sum(sum(map(str.isalpha, text)) for of in texts.values() for text in of) / num_texts
        by_library = _mean(_measure(library, texts))
        print(
            f"{kind:<32} {len(texts):>9}  {letters:>7.0f}  {by_library:>9.1%}  {_mean(found):>10.1%}"
            f"  {lowest:<3} {found[lowest]:>6.1%}  {1000 * seconds / num_texts:>9.2f}"
        )


def _compare_with_corpus(kinds: Mapping[str, Texts]) -> None:
    print(f"\n{'languages at hand, with corpus':<32} languages  word counts  py3langid  polyglance  by language")
    for kind, texts in kinds.items():
        corpus, held_out = _split(texts)
        methods = (_count_words(corpus), _limit_library(texts), LanguageIdentifier(texts, corpus).identify)
        counted, library, ours = (_measure(method, held_out) for method in methods)
        listed = " ".join(f"{code} {share:.1%}" for code, share in ours.items()) if len(ours) < 10 else ""
        means = f"{_mean(counted):>11.1%}  {_mean(library):>9.1%}  {_mean(ours):>10.1%}"
        print(f"{kind:<32} {len(texts):>9}  {means}  {listed}")


def _judge(kinds: Mapping[str, Texts]) -> None:
    print(f"\n{'texts that are judged':<32}  right: other   close  unclear   partly  |  wrong: other  unclear")
    highest: dict[str, str] = {}
    for kind, texts in kinds.items():
        rates = {code: Counter(judge_language(text, code).verdict for text in of) for code, of in texts.items()}
        shares = {
            name: {code: rates[code][name] / len(of) for code, of in texts.items()}
            for name in ("other", "close", "unclear")
        }
        partly = {code: sum(find_foreign_part(text, code) != "" for text in of) / len(of) for code, of in texts.items()}
        wrong = _judge_wrong(texts)
        other, close, unclear = (_mean(shares[name]) for name in ("other", "close", "unclear"))
        print(
            f"{kind:<32}  {other:>12.2%}  {close:>6.2%}  {unclear:>7.2%}  {_mean(partly):>7.2%}  |"
            f"  {wrong['other'] / wrong.total():>12.2%}  {wrong['unclear'] / wrong.total():>7.2%}"
        )
        worst = sorted(shares["other"], key=lambda code: -shares["other"][code])[:6]
        highest[kind] = " ".join(f"{code} {shares['other'][code]:.1%}" for code in worst if shares["other"][code])
    print("\ntexts with the second half of an English one, taken for another language or partly so:")
    for kind, texts in kinds.items():
        if "en" in texts:
            found = {code: _find_mixed(of, texts["en"], code) for code, of in texts.items() if code != "en"}
            print(f"{kind:<32}  {_mean(found):>12.1%}")
    print("\nright texts that are taken for another language, highest:")
    for kind, listed in highest.items():
        print(f"{kind:<32}  {listed}")


def _find_mixed(texts: list[str], english: list[str], code: str) -> float:
    """Return the share of texts with an English second half that are noticed."""
    halves = [(one.split(), other.split()) for one, other in zip(texts, english, strict=False)]
    mixed = [" ".join(one[: len(one) // 2] + other[len(other) // 2 :]) for one, other in halves]
    noticed = [judge_language(text, code).verdict == "other" or find_foreign_part(text, code) != "" for text in mixed]
    return sum(noticed) / len(noticed)


def _judge_wrong(texts: Texts) -> Counter[str]:
    """Judge texts that were asked for in another language, three for each."""
    pick = random.Random(0)
    verdicts: Counter[str] = Counter()
    for code, of_language in texts.items():
        for text in of_language:
            asked = [other for other in pick.sample(XM3600_LANGUAGES, 3) if not are_close(other, code)]
            verdicts.update(judge_language(text, other).verdict for other in asked)
    return verdicts


def _measure(identify: Callable[[str], str | None], texts: Texts) -> dict[str, float]:
    """Return language -> share of its texts that are recognised."""
    return {code: sum(identify(text) == code for text in of) / len(of) for code, of in texts.items()}


def _mean(shares: Mapping[str, float]) -> float:
    return sum(shares.values()) / len(shares)


def _draw(texts: Texts, number: int) -> Texts:
    return {code: random.Random(0).sample(of, min(number, len(of))) for code, of in texts.items()}


def _split(texts: Texts) -> tuple[list[tuple[str, str]], Texts]:
    """Split names into a corpus and held-out ones; the same places in every language."""
    corpus, held_out = [], {}
    for code, of_language in texts.items():
        kept = [random.Random(place).random() < 0.2 for place in range(len(of_language))]
        held_out[code] = [text for text, is_kept in zip(of_language, kept, strict=True) if is_kept][:_NUM_TEXTS]
        corpus += [(code, text) for text, is_kept in zip(of_language, kept, strict=True) if not is_kept]
    return corpus, held_out


def _limit_library(languages: Iterable[str]) -> Callable[[str], str]:
    library = Library.from_model_file(MODEL_FILE)
    library.set_languages({_OTHER_CODES.get(code, code) for code in languages} & set(library.labels))
    names = {other: code for code, other in _OTHER_CODES.items()}

    def identify(text: str) -> str:
        found = library.classify(text)[0]
        return names.get(found, found)

    return identify


def _count_words(corpus: Iterable[tuple[str, str]]) -> Callable[[str], str | None]:
    """Naive Bayes over words, as studies identified languages before."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for code, text in dict.fromkeys(corpus):
        counts[code].update(_split_words(text, code))
    num_words = len(set().union(*counts.values()))
    totals = {code: counter.total() + num_words for code, counter in counts.items()}

    def identify(text: str) -> str | None:
        scores = {}
        for code, counter in counts.items():
            words = _split_words(text, code)
            if any(word in counter for word in words):
                scores[code] = sum(log((counter[word] + 1) / totals[code]) for word in words) / max(len(words), 1)
        return max(scores, key=lambda code: scores[code], default=None)

    return identify


def _split_words(text: str, code: str) -> list[str]:
    if LANGUAGES[code].words == "characters":
        return [character for character in text.lower() if not character.isspace()]
    return [word.strip(".,;:!?()«»\"'") for word in text.lower().split()]


def _read_shared(folder: Path) -> dict[str, Texts]:
    names: dict[str, list[str]] = defaultdict(list)
    for line in (folder / "emoji" / "captions.jsonl").read_text(encoding="utf-8").splitlines():
        for code, text in json.loads(line)["texts"].items():
            names[code].append(text)
    raw = folder / "eval" / "multi30k" / "task1" / "raw"
    captions = {code: read_text(raw / f"test_2016_flickr.{code}.gz").splitlines() for code in ("en", "de", "fr")}
    commute = folder / "eval" / "commute"
    sentences = {code: read_text(commute / f"en-{code}" / f"correct.{code}").splitlines() for code in ("de", "ru")}
    sentences["en"] = read_text(commute / "en-de" / "src.en").splitlines()
    return {"names of emoji": names, "captions of Multi30K": captions, "sentences of CoMMuTE": sentences}


def _read_lingua(folder: Path) -> dict[str, Texts]:
    kinds: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for code in XM3600_LANGUAGES:
        tests = folder / "language-models" / _LINGUA_CODES.get(code, code) / "testdata"
        if not tests.is_dir():
            continue
        for kind in ("single words", "word pairs", "sentences"):
            text = (tests / f"{kind.replace(' ', '-')}.txt").read_text(encoding="utf-8")
            kinds[f"{kind} of lingua"][code] = [line for line in text.splitlines() if line.strip()]
        sentences = kinds["sentences of lingua"][code]
        if LANGUAGES[code].words == "characters":
            kinds["clauses of lingua"][code] = [text[:18] for text in sentences]
        else:
            split = (text.split() for text in sentences)
            kinds["clauses of lingua"][code] = [" ".join(words[-10:]) for words in split if len(words) >= 8]
    return dict(kinds)


def _read_annotations(folder: Path) -> Texts:
    names = {}
    for code in XM3600_LANGUAGES:
        path = folder / _ANNOTATION_CODES.get(code, code) / "annotations.json"
        entries = json.loads(path.read_text(encoding="utf-8"))["annotations"]["annotations"]
        names[code] = [entry["tts"][0] for entry in entries.values() if "tts" in entry]
    return names


def _read_xm3600(path: Path) -> Texts:
    captions: dict[str, list[str]] = defaultdict(list)
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for code in XM3600_LANGUAGES:
            captions[code] += row.get(code, {}).get("caption", [])
    return {code: texts for code, texts in captions.items() if texts}


if __name__ == "__main__":
    main()
