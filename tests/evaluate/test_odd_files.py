"""Files of other tools, notes and logs: each is read right, refused in one line, or warned about; none is silent.

Each form is written with predictions and scored against plain references, and against references of the same form: a
form that is taken for plain text on both sides would give a number that is wrong without a sign.
"""

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from polyglance.evaluate.score import ScoreConfig, score_files

NUM_IMAGES = 12
SUBJECTS = ["Café guests", "Two red buses", "Children", "A woman's dogs", "Some birds", "Tall men", "Cats", "Sailors"]
VERBS = ["wait near", "look at", "run around", "sit behind", "stand by"]
PLACES = ["the old station.", "a wooden fence.", "the kitchen table.", "some yellow umbrellas.", "an empty street."]
REFERENCES = [f"{SUBJECTS[i * 5 % 8]} {VERBS[i * 3 % 5]} {PLACES[i * 2 % 5]}" for i in range(NUM_IMAGES)]
PREDICTIONS = [text.replace(" the ", " a ").replace("Some", "Many") for text in REFERENCES]
NAMES = [f"img{(i * 7 + 3) % NUM_IMAGES + 500}.jpg" for i in range(NUM_IMAGES)]
OTHERS = [f"Quelques mots, {SUBJECTS[i % 8].lower()}." for i in range(NUM_IMAGES)]
ORDER = [(i * 5 + 2) % NUM_IMAGES for i in range(NUM_IMAGES)]
CONFIG = ScoreConfig(lang="en", metrics=("chrf",), bootstrap=0)

Texts = Sequence[str]
Form = Callable[[Texts], str | bytes]


def lines(make: Callable[[int, str], str], texts: Texts) -> str:
    return "".join(f"{make(i, text)}\n" for i, text in enumerate(texts))


def zipped(texts: Texts) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        rows = [{"image_id": name, "caption": text} for name, text in zip(NAMES, texts, strict=True)]
        archive.writestr("captions_results.json", json.dumps(rows))
    return content.getvalue()


READ: dict[str, Form] = {
    "text_tab_id.txt": lambda texts: lines(lambda i, text: f"{text}\t{NAMES[i]}", texts),
    "text_tab_id_shuf.tsv": lambda texts: "".join(f"{texts[i]}\t{NAMES[i]}\n" for i in ORDER),
    "text_tab_score.txt": lambda texts: lines(lambda i, text: f"{text}\t-{i}.234", texts),
    "score_tab_text.txt": lambda texts: lines(lambda i, text: f"-{i}.234\t{text}", texts),
    "sockeye.json": lambda texts: lines(
        lambda i, text: json.dumps({"sentence_id": i, "translation": text, "score": -1.0}), texts
    ),
    "moses_xml.txt": lambda texts: lines(lambda i, text: f'<seg id="{i + 1}">{text}</seg>', texts),
    "lm_eval.jsonl": lambda texts: lines(
        lambda i, text: json.dumps(
            {
                "doc_id": i,
                "doc": {"image": NAMES[i], "caption": text},
                "target": text,
                "arguments": [["x", {}]],
                "resps": [[text]],
                "filtered_resps": [text],
                "chrf": [1],
            }
        ),
        texts,
    ),
    "lm_eval2.jsonl": lambda texts: lines(
        lambda i, text: json.dumps({"doc_id": i, "target": text, "resps": [[text]], "filtered_resps": text}), texts
    ),
    "vllm.jsonl": lambda texts: lines(
        lambda i, text: json.dumps({"id": f"cmpl-{i}", "choices": [{"text": text}]}), texts
    ),
    "llava_answers.jsonl": lambda texts: lines(
        lambda i, text: json.dumps(
            {
                "question_id": NAMES[i],
                "prompt": "Describe",
                "text": text,
                "answer_id": "x",
                "model_id": "llava",
                "metadata": {},
            }
        ),
        texts,
    ),
    "cat_n.txt": lambda texts: lines(lambda i, text: f"{i + 1:6}\t{text}", texts),
    "one_py_list.txt": lambda texts: repr(list(texts)) + "\n",
    "pipe_flickr30k.csv": lambda texts: (
        "image_name| comment_number| comment\n" + lines(lambda i, text: f"{NAMES[i]}| 0| {text}", texts)
    ),
    "crlf.txt": lambda texts: lines(lambda i, text: text, texts).replace("\n", "\r\n"),
    "cr.txt": lambda texts: lines(lambda i, text: text, texts).replace("\n", "\r"),
    "mixed_crlf.txt": lambda texts: lines(lambda i, text: text + ("\r" if i % 2 else ""), texts),
    "utf16.txt": lambda texts: (lines(lambda i, text: text, texts)).encode("utf-16"),
    "utf16le_nomark.txt": lambda texts: (lines(lambda i, text: text, texts)).encode("utf-16-le"),
    "utf16.json": lambda texts: (json.dumps(dict(zip(NAMES, texts, strict=True)), ensure_ascii=False)).encode("utf-16"),
    "utf32.tsv": lambda texts: (lines(lambda i, text: f"{NAMES[i]}\t{text}", texts)).encode("utf-32"),
    "numbers_comma.csv": lambda texts: "id,score,caption\n" + lines(lambda i, text: f'{i},"0,{i}",{text}', texts),
    "numbers_comma2.csv": lambda texts: "id;score;caption\n" + lines(lambda i, text: f"{i};0,{i};{text}", texts),
    "floatid.json": lambda texts: json.dumps({f"{i}.0": h for i, h in enumerate(texts)}),
    "zeropad.json": lambda texts: json.dumps({f"{i:04}": h for i, h in enumerate(texts)}),
    "url_tab.txt": lambda texts: lines(lambda i, text: f"{text}\thttp://x.y/{NAMES[i]}", texts),
    "coco_results.zip": zipped,
}
OTHER: dict[str, Form] = {
    "text_paren_id.txt": lambda texts: lines(lambda i, text: f"{text} ({NAMES[i]})", texts),
    "text_space_id.txt": lambda texts: lines(lambda i, text: f"{text} {NAMES[i]}", texts),
    "text_kaldi_trn.txt": lambda texts: lines(lambda i, text: f"{text} (spk{i:03}-utt{i:04})", texts),
    "text_comma_id.txt": lambda texts: lines(lambda i, text: f"{text},{NAMES[i]}", texts),
    "text_bars_score.txt": lambda texts: lines(lambda i, text: f"{text} ||| -{i}.234", texts),
    "marian_nbest.txt": lambda texts: lines(lambda i, text: f"{i} ||| {text} ||| F0= -1.{i} ||| -0.{i}", texts),
    "marian_nbest2.txt": lambda texts: "".join(
        f"{i} ||| {texts[i]} ||| F0= -1.{i} ||| -0.{i}\n{i} ||| other text ||| F0= -2 ||| -3\n"
        for i in range(NUM_IMAGES)
    ),
    "marian_wordscores.txt": lambda texts: lines(lambda i, text: f"{text} ||| WordScores= -0.1 -0.2 -0.{i}", texts),
    "moses_nbest_short.txt": lambda texts: "".join(
        f"{i} ||| {texts[i]} ||| d: -1 lm: -{i} ||| -{i}.5\n" for i in range(2)
    ),
    "opennmt_log.txt": lambda texts: "".join(
        f"[2024-01-01 10:00:00 INFO] \nSENT {i + 1}: ['a', 'b']\nPRED {i + 1}: {texts[i]}\nPRED SCORE: -3.{i:02}\n\n"
        for i in range(NUM_IMAGES)
    ),
    "opennmt_verbose.txt": lambda texts: "".join(
        f"SENT {i + 1}: {OTHERS[i]}\nPRED {i + 1}: {texts[i]}\nPRED SCORE: -3.{i:02}\nGOLD {i + 1}: {OTHERS[i]}\n"
        for i in range(NUM_IMAGES)
    ),
    "pred_prefix.txt": lambda texts: lines(lambda i, text: f"PRED {i + 1}: {text}", texts),
    "moses_align.txt": lambda texts: lines(lambda i, text: f"{text} |0-1| end |2-3|", texts),
    "moses_trace.txt": lambda texts: lines(
        lambda i, text: f"{text.split()[0]} |0-0| {' '.join(text.split()[1:])} |1-{i + 2}|", texts
    ),
    "lmms_eval.json": lambda texts: json.dumps(
        {
            "args": {"model": "x"},
            "logs": [{"doc_id": i, "target": OTHERS[i], "filtered_resps": [texts[i]]} for i in range(NUM_IMAGES)],
        }
    ),
    "hf_pipeline.json": lambda texts: json.dumps([[{"generated_text": texts[i]}] for i in range(NUM_IMAGES)]),
    "hf_pipeline2.json": lambda texts: json.dumps([{"generated_text": texts[i]} for i in range(NUM_IMAGES)]),
    "hf_translation.json": lambda texts: json.dumps([{"translation_text": texts[i]} for i in range(NUM_IMAGES)]),
    "hf_datasets_translation.jsonl": lambda texts: lines(
        lambda i, text: json.dumps({"id": str(i), "translation": {"en": text, "fr": OTHERS[i]}}), texts
    ),
    "openai_batch.jsonl": lambda texts: lines(
        lambda i, text: json.dumps(
            {"custom_id": NAMES[i], "response": {"body": {"choices": [{"message": {"content": text}}]}}}
        ),
        texts,
    ),
    "yaml.yaml": lambda texts: lines(lambda i, text: f"{NAMES[i]}: {text}", texts),
    "yaml_list.yml": lambda texts: lines(lambda i, text: f"- {text}", texts),
    "yaml_records.yaml": lambda texts: lines(lambda i, text: f"- id: {i}\n  text: {text}", texts),
    "ini.ini": lambda texts: "[captions]\n" + lines(lambda i, text: f"{NAMES[i]} = {text}", texts),
    "toml.toml": lambda texts: "".join(f'"{NAMES[i]}" = "{texts[i]}"\n' for i in range(NUM_IMAGES)),
    "env.txt": lambda texts: lines(lambda i, text: f"caption_{i}={text}", texts),
    "numbered.txt": lambda texts: lines(lambda i, text: f"{i + 1}. {text}", texts),
    "numbered_paren.txt": lambda texts: lines(lambda i, text: f"{i + 1}) {text}", texts),
    "numbered_bracket.txt": lambda texts: lines(lambda i, text: f"[{i + 1}] {text}", texts),
    "numbered_hash.txt": lambda texts: lines(lambda i, text: f"#{i + 1} {text}", texts),
    "numbered_dash.txt": lambda texts: lines(lambda i, text: f"{i + 1} - {text}", texts),
    "bullets.txt": lambda texts: lines(lambda i, text: f"- {text}", texts),
    "bullets2.txt": lambda texts: lines(lambda i, text: f"* {text}", texts),
    "bullets3.txt": lambda texts: lines(lambda i, text: f"• {text}", texts),
    "grep_n.txt": lambda texts: lines(lambda i, text: f"{i + 1}:{text}", texts),
    "log_time.txt": lambda texts: lines(lambda i, text: f"2024-01-01 10:00:{i:02} INFO {text}", texts),
    "log_time2.txt": lambda texts: lines(lambda i, text: f"2024-01-01T10:00:{i:02}Z {text}", texts),
    "log_info.txt": lambda texts: lines(lambda i, text: f"INFO:root:{text}", texts),
    "key_caption.txt": lambda texts: lines(lambda i, text: f"caption: {text}", texts),
    "key_hyp.txt": lambda texts: lines(lambda i, text: f"Hypothesis: {text}", texts),
    "python_repr.txt": lambda texts: lines(lambda i, text: repr(text), texts),
    "json_strings.txt": lambda texts: lines(lambda i, text: json.dumps(text), texts),
    "json_strings.jsonl": lambda texts: lines(lambda i, text: json.dumps(text), texts),
    "bytes_repr.txt": lambda texts: lines(lambda i, text: repr(text.encode()), texts),
    "tuple_repr.txt": lambda texts: lines(lambda i, text: repr((NAMES[i], text)), texts),
    "dict_repr.txt": lambda texts: lines(lambda i, text: repr({"image_id": i, "caption": text}), texts),
    "py_assign.py": lambda texts: "captions = " + repr(list(texts)) + "\n",
    "html_table.html": lambda texts: (
        "<table>"
        + "".join(f"<tr><td>{NAMES[i]}</td><td>{texts[i]}</td></tr>\n" for i in range(NUM_IMAGES))
        + "</table>"
    ),
    "html_p.html": lambda texts: "<html><body>\n" + lines(lambda i, text: f"<p>{text}</p>", texts) + "</body></html>\n",
    "html_p.txt": lambda texts: lines(lambda i, text: f"<p>{text}</p>", texts),
    "md_table.md": lambda texts: (
        "| image | caption |\n|---|---|\n" + lines(lambda i, text: f"| {NAMES[i]} | {text} |", texts)
    ),
    "pipe.txt": lambda texts: lines(lambda i, text: f"{NAMES[i]}|{text}", texts),
    "semicolon.txt": lambda texts: lines(lambda i, text: f"{NAMES[i]};{text}", texts),
    "semicolon_noid.txt": lambda texts: lines(lambda i, text: f"a{chr(97 + i)};{text}", texts),
    "word_id.txt": lambda texts: lines(lambda i, text: f"image_{chr(97 + i)} {text}", texts),
    "csv_as_txt.txt": lambda texts: "image,caption\n" + lines(lambda i, text: f'{NAMES[i]},"{text}"', texts),
    "csv_quoted.txt": lambda texts: lines(lambda i, text: f'"{NAMES[i]}","{text}"', texts),
    "header_line.txt": lambda texts: "caption\n" + lines(lambda i, text: text, texts),
    "comment_line.txt": lambda texts: "# generated by x\n" + lines(lambda i, text: text, texts),
    "bom_mid.txt": lambda texts: lines(lambda i, text: text if i != 5 else "\ufeff" + text, texts),
    "rtl.txt": lambda texts: lines(lambda i, text: "\u200f" + text, texts),
    "nul.txt": lambda texts: lines(lambda i, text: text + ("\0" if i == 3 else ""), texts),
    "ff.txt": lambda texts: lines(lambda i, text: text + ("\f" if i == 3 else ""), texts),
    "quotes.txt": lambda texts: lines(lambda i, text: f'"{text}"', texts),
    "curly.txt": lambda texts: lines(lambda i, text: f"“{text}”", texts),
    "double_spaced.txt": lambda texts: lines(lambda i, text: text + "\n", texts),
    "trailing_blank.txt": lambda texts: lines(lambda i, text: text, texts) + "\n",
    "three_blank.txt": lambda texts: lines(lambda i, text: text, texts) + "\n\n\n",
    "latin1.txt": lambda texts: (lines(lambda i, text: text, texts)).encode("latin-1"),
    "floatid.jsonl": lambda texts: lines(lambda i, text: json.dumps({"id": float(i), "text": text}), texts),
    "nested.json": lambda texts: json.dumps({"test": dict(zip(NAMES, texts, strict=True))}),
    "nested2.json": lambda texts: json.dumps({"model": "x", "predictions": dict(zip(NAMES, texts, strict=True))}),
    "meta.json": lambda texts: json.dumps({"model": "x", "captions": list(texts)}),
    "sub.srt": lambda texts: "".join(
        f"{i + 1}\n00:00:{i:02},000 --> 00:00:{i:02},900\n{texts[i]}\n\n" for i in range(NUM_IMAGES)
    ),
    "vtt.vtt": lambda texts: (
        "WEBVTT\n\n" + "".join(f"00:{i:02}.000 --> 00:{i:02}.900\n{texts[i]}\n\n" for i in range(NUM_IMAGES))
    ),
    "conll.txt": lambda texts: "".join(
        "\n".join(f"{j + 1}\t{w}" for j, w in enumerate(texts[i].split())) + "\n\n" for i in range(NUM_IMAGES)
    ),
    "hyp_ref.txt": lambda texts: "".join(f"HYP: {texts[i]}\nREF: {OTHERS[i]}\n" for i in range(NUM_IMAGES)),
    "hyp_src_tab.txt": lambda texts: lines(lambda i, text: f"{OTHERS[i]}\t{text}", texts),
    "espnet.txt": lambda texts: lines(lambda i, text: f"utt_{i:03} {text}", texts),
    "tmx.tmx": lambda texts: (
        "<tmx><body>"
        + "".join(
            f'<tu><tuv xml:lang="en"><seg>{h}</seg></tuv><tuv xml:lang="fr"><seg>x</seg></tuv></tu>' for h in texts
        )
        + "</body></tmx>"
    ),
    "xliff.xlf": lambda texts: (
        "<xliff><file><body>"
        + "".join(
            f'<trans-unit id="{i}"><source>x</source><target>{h}</target></trans-unit>\n' for i, h in enumerate(texts)
        )
        + "</body></xliff>"
    ),
    "tab_trailing.txt": lambda texts: lines(lambda i, text: text + "\t", texts),
    "ansi.txt": lambda texts: lines(lambda i, text: f"\x1b[32m{text}\x1b[0m", texts),
    "eos.txt": lambda texts: lines(lambda i, text: text + " </s>", texts),
    "percent.txt": lambda texts: lines(lambda i, text: f"{text} 0.{i}87", texts),
    "prob_pct.txt": lambda texts: lines(lambda i, text: f"{text} (p={i}%)", texts),
    "text_tab_word.txt": lambda texts: lines(lambda i, text: f"{text}\timage_{chr(97 + i)}", texts),
}


def write(folder: Path, name: str, form: Form, texts: Texts) -> Path:
    folder.mkdir(exist_ok=True)
    content = form(texts)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


def write_plain(folder: Path) -> list[Path]:
    """Write plain references: lines, by file name, and by number."""
    paths = [folder / "plain.txt", folder / "names.json", folder / "numbers.json"]
    paths[0].write_text("".join(f"{text}\n" for text in REFERENCES))
    paths[1].write_text(json.dumps(dict(zip(NAMES, REFERENCES, strict=True))))
    paths[2].write_text(json.dumps({str(i): text for i, text in enumerate(REFERENCES)}))
    return paths


def score_right(folder: Path) -> float:
    plain = folder / "predictions.txt"
    plain.write_text("".join(f"{text}\n" for text in PREDICTIONS))
    return score_files(plain, [folder / "plain.txt"], CONFIG).scores[0].value


def outcomes(hyps: Path, refs: list[Path], right: float) -> list[str]:
    """Tell what becomes of predictions against each file of references."""
    found = []
    for path in refs:
        try:
            report = score_files(hyps, [path], CONFIG)
        except ValueError as error:
            assert "\n" not in str(error), error  # noqa: PT017
            found.append("refused")
            continue
        # Where texts come from is said, but does not say that they are wrong.
        warnings = [one for one in report.warnings if "joined by" not in one and ": ids from" not in one]
        warnings = [one for one in warnings if ": no ids (rows count)" not in one]
        is_right = report.scores[0].value == pytest.approx(right, abs=1e-9)
        found.append("right" if is_right else "warned" if warnings else f"silent: {report.scores[0].value}")
    return found


@pytest.mark.parametrize("name", READ)
def test_files_of_other_tools_are_read(name: str, tmp_path: Path) -> None:
    plain = write_plain(tmp_path)
    right = score_right(tmp_path)
    hyps = write(tmp_path / "hyps", name, READ[name], PREDICTIONS)
    assert "right" in outcomes(hyps, plain, right)
    refs = write(tmp_path / "refs", name, READ[name], REFERENCES)
    assert not [one for one in outcomes(hyps, [*plain, refs], right) if one.startswith("silent")]


@pytest.mark.parametrize("name", OTHER)
def test_no_other_file_passes_in_silence(name: str, tmp_path: Path) -> None:
    plain = write_plain(tmp_path)
    right = score_right(tmp_path)
    hyps, refs = (
        write(tmp_path / side, name, OTHER[name], texts) for side, texts in (("h", PREDICTIONS), ("r", REFERENCES))
    )
    found = [*outcomes(hyps, [*plain, refs], right), *outcomes(tmp_path / "predictions.txt", [refs], right)]
    assert not [one for one in found if one.startswith("silent")], found
