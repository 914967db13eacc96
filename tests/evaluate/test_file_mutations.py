"""2,000 mutations of right files: the score stays, or the file is refused in one line, or a warning says what changed.

Another value without a word is the failure. Mutations that no reader can see (a caption that is another right caption)
are not made.
"""

import json
import random
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from polyglance.evaluate.score import ScoreConfig, score_files

NUM_MUTATIONS = 2_000
PARTS = 20
SUBJECTS = ["Café guests", "Two “red” buses", "Children", "A woman's dogs", "Some birds", "Tall men", "Cats", "Sailors"]
VERBS = ["wait near", "look at", "run around", "sit behind", "stand by"]
PLACES = ["the old station.", "a wooden fence.", "the kitchen table.", "some yellow umbrellas.", "an empty street."]

Rows = list[tuple[str, str]]
Change = Callable[[random.Random, Rows], Rows]
Form = Callable[[Rows], str]


def make_captions(rng: random.Random) -> tuple[Rows, dict[str, list[str]]]:
    """Return predictions and references of twelve images."""
    names = [f"img{number}.jpg" for number in rng.sample(range(100, 1000), 12)]
    references, predictions = {}, []
    for name in names:
        texts = [f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} {rng.choice(PLACES)}" for _ in range(2)]
        references[name] = texts
        start = texts[0].split()
        predictions.append((name, " ".join([*start[:-1], rng.choice(["big", "small", "blue"]), start[-1]])))
    return predictions, references


def on_texts(change: Callable[[str], str]) -> Change:
    return lambda rng, rows: [(name, change(text)) for name, text in rows]


def shuffle(rng: random.Random, rows: Rows) -> Rows:
    return rng.sample(rows, len(rows))


def drop(rng: random.Random, rows: Rows) -> Rows:
    return rng.sample(rows, len(rows) - 1)


def repeat(rng: random.Random, rows: Rows) -> Rows:
    return [*rows, rng.choice(rows)]


def contradict(rng: random.Random, rows: Rows) -> Rows:
    return [*rows, (rng.choice(rows)[0], "Something else.")]


def rename(rng: random.Random, rows: Rows) -> Rows:
    place = rng.randrange(len(rows))
    return [("other.png", text) if number == place else (name, text) for number, (name, text) in enumerate(rows)]


def empty(rng: random.Random, rows: Rows) -> Rows:
    place = rng.randrange(len(rows))
    return [(name, "" if number == place else text) for number, (name, text) in enumerate(rows)]


CHANGES: dict[str, Change] = {
    "nothing": lambda rng, rows: rows,
    "shuffle": shuffle,
    "drop": drop,
    "repeat": repeat,
    "contradict": contradict,
    "rename": rename,
    "empty": empty,
    "nfd": on_texts(lambda text: unicodedata.normalize("NFD", text)),
    "zero width": on_texts(lambda text: text.replace(" ", "\u200b ")),
    "special": on_texts(lambda text: f"<s>{text}</s>"),
    "subwords": on_texts(lambda text: f"{text[:3]}@@ {text[3:]}".replace(" @@ ", "@@ ")),
    "entities": on_texts(lambda text: text.replace(" ", " &quot;", 1)),
    "upper": on_texts(str.upper),
    "quoted": on_texts(lambda text: f'"{text}"'),
    "mojibake": on_texts(lambda text: text.encode().decode("cp1252", "replace")),
    "chat": on_texts(lambda text: f"Sure, here is the caption: {text}"),
    "prompt": on_texts(lambda text: f"a photo of {text}"),
    "loop": on_texts(lambda text: text + " and the" * 6),
    "tokenised": on_texts(lambda text: text.replace(".", " .")),
    "list": on_texts(lambda text: repr([text])),
    "nan": on_texts(lambda text: "nan"),
    "folders": lambda rng, rows: [(f"val/{name}", text) for name, text in rows],
    "no extensions": lambda rng, rows: [(name.removesuffix(".jpg"), text) for name, text in rows],
}
FORMS: dict[str, Form] = {
    "a.json": lambda rows: json.dumps([{"image_id": name, "caption": text} for name, text in rows]),
    # Written by hand, so that an id may stand twice.
    "by_id.json": lambda rows: (
        "{" + ", ".join(f"{json.dumps(name)}: [{json.dumps({'caption': text})}]" for name, text in rows) + "}"
    ),
    "wrapped.json": lambda rows: json.dumps({"annotations": [{"image_id": n, "id": 1, "caption": t} for n, t in rows]}),
    "a.jsonl": lambda rows: "".join(json.dumps({"id": name, "prediction": text}) + "\n" for name, text in rows),
    "a.tsv": lambda rows: "".join(f"{name}\t{text}\n" for name, text in rows),
    "a.txt": lambda rows: "".join(f"{name}\t{text}\n" for name, text in rows),
    "b.tsv": lambda rows: "image\tcaption\n" + "".join(f"{name}\t{text}\n" for name, text in rows),
    "a.csv": lambda rows: (
        "file_name,output\n" + "".join('{},"{}"\n'.format(name, text.replace('"', '""')) for name, text in rows)
    ),
    "spaces.txt": lambda rows: "".join(f"{name} {text}\n" for name, text in rows),
    "colons.txt": lambda rows: "".join(f"{name}: {text}\n" for name, text in rows),
    "python.txt": lambda rows: "".join(repr({"id": name, "text": text}) + "\n" for name, text in rows),
    "bars.txt": lambda rows: "".join(f"{name}|{text}\n" for name, text in rows),
}
ENCODINGS = ("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "cp1252")


@pytest.mark.parametrize("part", range(PARTS))
def test_no_mutation_changes_the_score_without_a_word(part: int, tmp_path: Path) -> None:
    rng = random.Random(part)
    config = ScoreConfig(lang="en", metrics=("chrf",), bootstrap=0)
    rows, references = make_captions(rng)
    refs = tmp_path / "refs.json"
    refs.write_text(json.dumps(references))
    plain = tmp_path / "plain.json"
    plain.write_text(json.dumps(dict(rows)))
    right = score_files(plain, [refs], config).scores[0].value
    for _ in range(NUM_MUTATIONS // PARTS):
        change, form, encoding = rng.choice([*CHANGES]), rng.choice([*FORMS]), rng.choice(ENCODINGS)
        path = tmp_path / form
        path.write_bytes(FORMS[form](CHANGES[change](rng, rows)).encode(encoding, "replace"))
        try:
            report = score_files(path, [refs], config)
        except ValueError as error:
            assert "\n" not in str(error), (change, form, encoding)  # noqa: PT017
            continue
        notes = [one for one in report.warnings if not one.startswith(f"{path}: ids from")]
        changed = abs(report.scores[0].value - right) > 1e-9
        assert not changed or notes, (change, form, encoding, report.scores[0].value, right)


READ_FORMS = [name for name in FORMS if name not in ("spaces.txt", "colons.txt", "python.txt", "bars.txt")]


@pytest.mark.parametrize("form", READ_FORMS)
def test_right_files_are_read_in_every_form(form: str, tmp_path: Path) -> None:
    """Mutations that are refused all over would pass the test above."""
    rows, references = make_captions(random.Random(7))
    refs, path = tmp_path / "refs.json", tmp_path / form
    refs.write_text(json.dumps(references))
    config = ScoreConfig(lang="en", metrics=("chrf",), bootstrap=0)
    values = set()
    for order in (rows, rows[::-1]):
        path.write_text(FORMS[form](order))
        values.add(score_files(path, [refs], config).scores[0].value)
    (tmp_path / "plain.json").write_text(json.dumps(dict(rows)))
    assert values == {score_files(tmp_path / "plain.json", [refs], config).scores[0].value}
