"""Bitext in every form gives the same pairs, and every malformed line is counted with a reason."""

import bz2
import gzip
import lzma
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyglance.data.sources.bitext import BitextPair, BitextSource
from polyglance.data.sources.seen import SeenHashes
from polyglance.records import Drops

PAIRS = [("a dog runs", "un chien court"), ("two cats & a bird", "deux chats et un oiseau"), ("snow", "neige")]


def read_pieces(source: BitextSource, drops: Drops, num_records: int = 10**6) -> list[BitextPair]:
    return [pair for piece in source.find_pieces(num_records, drops) for pair in source.read_piece(piece, drops)]


def read(path: Path, language: str = "fr", **options) -> tuple[list, dict[str, int]]:
    drops = Drops()
    pairs = read_pieces(BitextSource(path=path, language=language, **options), drops)
    assert all(isinstance(pair, BitextPair) and pair.language == language and pair.where for pair in pairs)
    return [(pair.source, pair.target) for pair in pairs], dict(drops)


def lines(texts: list[str]) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()


def write_tsv(folder: Path, pairs: list) -> Path:
    (folder / "pairs.tsv").write_bytes(lines(["\t".join(pair) for pair in pairs]))
    return folder / "pairs.tsv"


def write_moses(folder: Path, pairs: list) -> Path:
    for side, code in enumerate(("en", "fr")):
        (folder / f"corpus.en-fr.{code}").write_bytes(lines([pair[side] for pair in pairs]))
    return folder / "corpus.en-fr"


def write_opus(folder: Path, pairs: list) -> Path:
    with zipfile.ZipFile(folder / "en-fr.txt.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("README", "see licence")
        for side, code in enumerate(("en", "fr")):
            archive.writestr(f"../../Corpus.en-fr.{code}", lines([pair[side] for pair in pairs]))
    return folder / "en-fr.txt.zip"


def tmx(units: str) -> bytes:
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n'
    return f'{head}<tmx version="1.4"><header/><body>\n{units}</body></tmx>'.encode()


def unit(english: str, other: str, tags: tuple[str, str] = ("en", "fr")) -> str:
    sides = zip(tags, (english, other), strict=True)
    return "<tu>" + "".join(f'<tuv xml:lang="{tag}"><seg>{text}</seg></tuv>' for tag, text in sides) + "</tu>\n"


def write_tmx(folder: Path, pairs: list) -> Path:
    units = "".join(unit(escape(english), escape(other)) for english, other in pairs)
    (folder / "memory.tmx").write_bytes(tmx(units))
    return folder / "memory.tmx"


def write_parquet(folder: Path, pairs: list) -> Path:
    rows = [{"translation": {"en": english, "fr": other}} for english, other in pairs]
    pq.write_table(pa.Table.from_pylist(rows), folder / "train.parquet")
    return folder / "train.parquet"


FORMS = [write_tsv, write_moses, write_opus, write_tmx, write_parquet]


@pytest.mark.parametrize("write", FORMS)
def test_every_form_gives_the_same_pairs(write: Callable[[Path, list], Path], tmp_path: Path) -> None:
    assert read(write(tmp_path, PAIRS)) == (PAIRS, {})
    assert not (tmp_path.parent / "Corpus.en-fr.en").exists()


@pytest.mark.parametrize("write", FORMS)
def test_a_bad_pair_is_counted_and_costs_no_other(write: Callable[[Path, list], Path], tmp_path: Path) -> None:
    bad = {
        "fr: an empty side": [("", "rien"), ("nothing", " \u200b ")],
        "fr: a side that is too long": [("x" * 10**6, "long"), ("long", "y" * 1001)],
        "fr: HTML tags": [("<b>bold</b>", "gras"), ("a line<br/>", "une ligne")],
        "fr: both sides the same": [("Paris", "Paris")],
        "fr: characters lost in an earlier conversion (U+FFFD)": [("caf\ufffd", "café")],
    }
    pairs = [PAIRS[0], *(pair for group in bad.values() for pair in group), *PAIRS[1:]]
    assert read(write(tmp_path, pairs)) == (PAIRS, {reason: len(group) for reason, group in bad.items()})


@pytest.mark.parametrize("write", [write_tsv, write_moses, write_opus, write_tmx])
def test_bytes_that_are_not_utf8_cost_one_line(write: Callable[[Path, list], Path], tmp_path: Path) -> None:
    marker = "LATIN"
    path = write(tmp_path, [PAIRS[0], ("coffee", marker), *PAIRS[1:]])
    if write is write_opus:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("c.en", lines([PAIRS[0][0], "coffee", *(pair[0] for pair in PAIRS[1:])]))
            archive.writestr(
                "c.fr", lines([PAIRS[0][1], marker, *(pair[1] for pair in PAIRS[1:])]).replace(b"LATIN", b"caf\xe9")
            )
    for file in tmp_path.iterdir():
        if file != path or write is not write_opus:
            file.write_bytes(file.read_bytes().replace(b"LATIN", b"caf\xe9"))
    pairs, drops = read(path)
    assert pairs == PAIRS
    assert list(drops.values()) == [1]


def test_texts_are_cleaned_and_not_changed_otherwise(tmp_path: Path) -> None:
    dirty = [
        ("A\x0bB\x00\x1fC", "un\u2028deux\x85trois"),  # control characters, and line breaks that are none here
        ("R&amp;D &lt;3 &#233;&nbsp;&copy &unknown; 1 < 2", "cafe\u0301 < the"),
        ("it's\r", "c'est\u00a0?"),
    ]
    clean = [
        ("A B C", "un deux trois"),
        ("R&D <3 é\u00a0&copy &unknown; 1 < 2", "caf\u00e9 < the"),
        ("it's", "c'est\u00a0?"),
    ]
    assert read(write_moses(tmp_path, dirty)) == (clean, {})


def test_moses_with_unequal_line_counts_is_refused_before_the_first_pair(tmp_path: Path) -> None:
    path = write_moses(tmp_path, PAIRS)
    (tmp_path / "corpus.en-fr.fr").write_bytes(b"un chien court\nneige")
    with pytest.raises(ValueError, match=r"corpus\.en-fr\.en has 3 lines and .*corpus\.en-fr\.fr has 2"):
        BitextSource(path=path, language="fr").find_pieces(10, Drops())


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_compressed_files_are_read_and_cut_ones_refused(suffix: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pairs = [(f"number {number}", f"numéro {number}") for number in rng.integers(0, 10**9, 5000)]
    text = lines(["\t".join(pair) for pair in pairs])
    compress = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    compress[".zst"] = lambda data: pa.compress(data, codec="zstd", asbytes=True)
    half = len(text) // 2  # two streams one after the other, as parallel compressors write them
    content = compress[suffix](text[:half]) + compress[suffix](text[half:])
    path = tmp_path / f"pairs.tsv{suffix}"
    path.write_bytes(content)
    assert read(path) == (pairs, {})
    path.write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(ValueError, match="damaged or cut short"):
        read(path)


def test_tsv_columns_by_header_by_number_and_either_way_round(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_bytes(b"\xef\xbb\xbfid\tFR\ten\n1\tneige\tsnow\n2\tpluie\n")
    assert read(path) == ([("snow", "neige")], {"fr: too few columns": 1})
    assert read(path, columns=("en", "id")) == ([("snow", "1")], {"fr: too few columns": 1})
    path.write_bytes(b"neige\tsnow\n\npluie\train")
    assert read(path, columns=("2", "1")) == ([("snow", "neige"), ("rain", "pluie")], {"fr: an empty line": 1})
    with pytest.raises(ValueError, match=r"pairs\.tsv: there is no column 'english' in its first line"):
        read(path, columns=("english", "french"))


def test_columns_that_name_the_language_in_every_line_are_no_header(tmp_path: Path) -> None:
    texts = [("A dog runs in the park.", "Un chien court."), ("A cat sleeps.", "Un chat dort."), ("Rain.", "Il pleut.")]
    path = tmp_path / "tatoeba.tsv"
    path.write_text(
        "".join(f"{number}\teng\t{en}\t{number + 70}\tfra\t{fr}\n" for number, (en, fr) in enumerate(texts))
    )
    pairs, drops = read(path)
    assert pairs == texts
    assert not drops
    path.write_text("eng\tfra\n" + "".join(f"{en}\t{fr}\n" for en, fr in texts))
    assert len(read(path)[0]) == 3


def test_tmx_variants_inline_codes_and_units_that_lack_a_side(tmp_path: Path) -> None:
    path = tmp_path / "memory.tmx"
    path.write_bytes(
        tmx(
            unit("colour", "couleur", ("en-GB", "fr-FR"))
            + unit("click <bpt i='1'>{\\b</bpt><hi>here</hi><ept i='1'>}</ept>", "cliquez ici", ("EN_US", "FR"))
            + unit("second", "deuxième", ("en-us", "fr")).replace(
                "<tuv", '<tuv xml:lang="en-gb"><seg>2nd</seg></tuv><tuv', 1
            )
            + unit("only", "nur", ("en", "de"))
            + unit("a&nbsp;b &#233;", "d", ("en", "fr"))
            + unit("english", "eng", ("en", "x-none"))
        )
    )
    pairs, drops = read(path)
    assert pairs == [("colour", "couleur"), ("click here", "cliquez ici"), ("second", "deuxième"), ("a\u00a0b é", "d")]
    assert drops == {"fr: no text in fr": 2}


def test_tmx_in_utf16_and_latin1(tmp_path: Path) -> None:
    path = tmp_path / "memory.tmx"
    content = tmx(unit("summer", "été")).decode()
    for encoding in ("utf-16", "latin-1"):
        path.write_bytes(content.replace("UTF-8", encoding).encode(encoding))
        assert read(path) == ([("summer", "été")], {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'<!DOCTYPE tmx [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><tmx><tu>&b;</tu></tmx>', "which is not plain text"),
        (b'<!DOCTYPE tmx [<!ENTITY a SYSTEM "file:///etc/passwd">]><tmx>&a;</tmx>', "which is not plain text"),
        (tmx(unit("a", "b"))[:-20], "not well-formed XML"),
        (b"", "not well-formed XML"),
        (b'<?xml version="1.0" encoding="zip"?><tmx/>', "which it cannot be in"),
        (b'<?xml version="1.0" encoding="none-such"?><tmx/>', "unknown encoding"),
        (b"<tmx a='" + b"x" * 2**25, "a tag of more than"),
    ],
)
def test_hostile_or_broken_tmx_is_refused_in_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "memory.tmx").write_bytes(content)
    with pytest.raises(ValueError, match=message) as refusal:
        read(tmp_path / "memory.tmx")
    assert "\n" not in str(refusal.value)


def test_parquet_columns_nulls_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    bad = pa.array([b"snow", b"caf\xe9", None, b"rain"]).cast(pa.binary()).view(pa.string())
    pq.write_table(pa.table({"src": bad, "tgt": ["neige", "a", "b", "pluie"]}), tmp_path / "a.parquet")
    pairs, drops = read(tmp_path, columns=("src", "tgt"))
    assert pairs == [("snow", "neige"), ("rain", "pluie")]
    assert drops == {"fr: not UTF-8": 1, "fr: an empty side": 1}
    with pytest.raises(ValueError, match="no columns 'en' and 'fr'"):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 half a zip", "missing member"])
def test_opus_zips_that_cannot_be_read_are_refused(damage: bytes | str, tmp_path: Path) -> None:
    path = write_opus(tmp_path, PAIRS)
    if isinstance(damage, bytes):
        path.write_bytes(damage)
    with pytest.raises(ValueError, match="damaged or cut short" if isinstance(damage, bytes) else "should be one"):
        read(path, language="fr" if isinstance(damage, bytes) else "de")


def test_options(tmp_path: Path) -> None:
    path = write_tsv(tmp_path, [("no", "non certainement pas"), ("Rome", "Rome"), ("Rome", "Rome")])
    pairs, drops = read(path, max_length_ratio=3.0, keep_identical=True)
    assert pairs == [("Rome", "Rome")] * 2
    assert drops == {"fr: sides of very different length": 1}
    assert read(path, max_characters=2) == ([], {"fr: a side that is too long": 3})
    with pytest.raises(ValueError, match="not English"):
        BitextSource(path=path, language="en")


@given(st.binary(max_size=300))
def test_no_bytes_make_a_traceback_or_lose_a_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("wild") / "pairs.tsv"
    content = b"one\tun\n" + content.replace(b"\0", b"\1")  # nothing that marks a compression or an encoding
    path.write_bytes(content)
    pairs, drops = read(path, columns=("1", "2"))
    assert len(pairs) + sum(drops.values()) == content.count(b"\n") + (content[-1:] not in (b"", b"\n"))
    for pair in pairs:
        assert not any(break_ in text for text in pair for break_ in "\n\r\x0b\x0c\x85\u2028\u2029\x00")


@given(st.lists(st.lists(st.integers(0, 30) | st.integers(0, 2**64 - 1), max_size=20), max_size=12))
def test_seen_hashes_are_a_set(batches: list[list[int]]) -> None:
    seen, expected = SeenHashes(), set()
    for batch in batches:
        is_new = seen.add(np.array(batch, dtype=np.uint64))
        for value, new in zip(batch, is_new, strict=True):
            assert new == (value not in expected)
            expected.add(value)
    assert len(seen) == len(expected)


def test_a_line_without_end_and_a_long_file_fit_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"snow\tneige\n")
        for _ in range(64):
            file.write(b"x" * 2**20)
        file.write(b"\nrain\tpluie\n")
    tracemalloc.start()
    assert read(path) == ([("snow", "neige"), ("rain", "pluie")], {"fr: a side that is too long": 1})
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 8 * 2**20


def write_tsv_gz(folder: Path, pairs: list) -> Path:
    path = folder / "pairs.tsv.gz"
    path.write_bytes(gzip.compress(write_tsv(folder, pairs).read_bytes()))
    return path


def write_groups(folder: Path, pairs: list) -> Path:
    table = pa.table({"en": [english for english, _ in pairs], "fr": [other for _, other in pairs]})
    (folder / "groups").mkdir()
    pq.write_table(table.slice(0, 25), folder / "groups" / "a.parquet", row_group_size=4)
    pq.write_table(table.slice(25), folder / "groups" / "b.parquet", row_group_size=30)
    return folder / "groups"


@pytest.mark.parametrize(("write", "num_pieces"), [(write_tsv, 21), (write_tsv_gz, 11), (write_moses, 21),
                                                  (write_opus, 11), (write_groups, 9), (write_tmx, 1)])  # fmt: skip
def test_pieces_are_the_whole_in_order_with_the_same_places(
    write: Callable, num_pieces: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polyglance.data.sources.bitext_forms._BUFFER_BYTES", 50)  # pieces begin inside and between
    pairs = [(f"number {n} " + "e" * (n % 7), f"nombre {n}" + "\u2028x" * (n % 3)) for n in range(61)]
    pairs[30] = ("", "nothing")
    source = BitextSource(path=write(tmp_path, pairs), language="fr")
    whole_drops, drops = Drops(), Drops()
    whole = read_pieces(source, whole_drops)
    assert read_pieces(source, drops, 3) == whole
    assert drops.to_dict() == whole_drops.to_dict()
    assert len(whole) == 60
    assert len(source.find_pieces(3, Drops())) == num_pieces


def test_a_compressed_file_is_cut_into_few_pieces(tmp_path: Path) -> None:
    source = BitextSource(path=write_tsv_gz(tmp_path, [(f"n {n}", f"m {n}") for n in range(1000)]), language="fr")
    assert len(source.find_pieces(3, Drops())) == 16


def test_a_variant_in_another_script_is_never_read(tmp_path: Path) -> None:
    units = unit("A dog.", "這隻狗。", ("en", "zh-TW")).replace(
        "</tu>", '<tuv xml:lang="zh-CN"><seg>这只狗。</seg></tuv></tu>'
    )
    units += unit("A car.", "一輛車。", ("en-US", "zh-Hant")) + unit("A house.", "這是一座老房子。", ("en", "zh"))
    (tmp_path / "memory.tmx").write_bytes(tmx(units))
    pairs, drops = read(tmp_path / "memory.tmx", language="zh")
    assert pairs == [("A dog.", "这只狗。")]
    assert drops == {"zh: no text in zh": 1, "zh: in another script than zh": 1}
    (tmp_path / "memory.tmx").write_bytes(tmx(unit("A car.", "一輛車。", ("en-US", "zh-Hant")) * 2))
    with pytest.raises(ValueError, match=r"no unit has a text in en and one in zh; it has en-US \(2\), zh-Hant \(2\)"):
        read(tmp_path / "memory.tmx", language="zh")


def test_tmx_codes_that_stand_for_a_space_and_entities_of_plain_text(tmp_path: Path) -> None:
    units = unit("one<ph x='1'>&lt;br/&gt;</ph>two", "un<ph type='lb'/>deux<ph x='2'>{1}</ph>.") + unit(
        "&who; <ph x='1'>%s</ph>runs", "il<it pos='begin'>&lt;i&gt;</it>s courent"
    )
    doctype = '<!DOCTYPE tmx SYSTEM "tmx14.dtd" [<!ENTITY who "The dog &#233;">]>'
    (tmp_path / "memory.tmx").write_bytes(tmx(units).replace(b'<!DOCTYPE tmx SYSTEM "tmx14.dtd">', doctype.encode()))
    assert read(tmp_path / "memory.tmx")[0] == [("one two", "un deux."), ("The dog é runs", "ils courent")]


@pytest.mark.parametrize(("english", "french"), [("en-US", "fr_FR"), ("eng", "fra"), ("en", "fr-CA")])
def test_sides_are_found_by_every_tag_of_their_language(tmp_path: Path, english: str, french: str) -> None:
    for side, tag in enumerate((english, french)):
        (tmp_path / f"corpus.{tag}").write_bytes(lines([pair[side] for pair in PAIRS]))
    assert read(tmp_path / "corpus") == (PAIRS, {})
    pq.write_table(
        pa.table({english: [pair[0] for pair in PAIRS], french: [pair[1] for pair in PAIRS]}), tmp_path / "t.parquet"
    )
    assert read(tmp_path / "t.parquet") == (PAIRS, {})


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("write", [write_tsv, write_moses])
def test_every_encoding_gives_the_same_pairs(write: Callable, encoding: str, tmp_path: Path) -> None:
    path = write(tmp_path, PAIRS)
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_text().encode(encoding))
    assert read(path) == (PAIRS, {})


def test_spoilt_and_misplaced_texts_are_counted(tmp_path: Path) -> None:
    bad = [("a house", "une maison \u00c3\u00a9clair\u00c3\u00a9e"), ("a garden", "дом и сад за рекой")]
    pairs, drops = read(write_tsv(tmp_path, [*PAIRS, *bad]))
    assert pairs == PAIRS
    assert drops == {"fr: UTF-8 that was read in another encoding": 1, "fr: in another script than fr": 1}


SENTENCES = [(f"the dog number {n} runs in the garden", f"le chien numéro {n} court dans le jardin") for n in range(6)]


@pytest.mark.parametrize(
    "columns",
    [
        lambda n, pair: (f"1.{n}4", *pair),
        lambda n, pair: (f"https://a.org/{n}", f"https://b.fr/{n}", *pair, "0.87"),
        lambda n, pair: (*pair, f"0.{n}"),
        lambda n, pair: ("corpus.v1", str(n), *pair),
    ],
)
def test_scores_and_addresses_are_no_sentences(columns: Callable, tmp_path: Path) -> None:
    rows = [columns(n, pair) for n, pair in enumerate(SENTENCES)]
    (tmp_path / "pairs.tsv").write_bytes(lines(["\t".join(row) for row in rows]))
    assert read(tmp_path / "pairs.tsv") == (SENTENCES, {})


def test_a_header_is_no_pair_and_what_is_not_clear_is_refused(tmp_path: Path) -> None:
    path = write_tsv(tmp_path, [("source", "target"), *SENTENCES])
    assert read(path) == (SENTENCES, {})
    path = write_tsv(tmp_path, [(other, english) for english, other in SENTENCES])
    with pytest.raises(ValueError, match=r'if English comes second, set columns to \["2", "1"\]'):
        read(path)
    assert read(path, columns=("2", "1")) == (SENTENCES, {})
    (tmp_path / "pairs.tsv").write_bytes(lines(["\t".join((*pair, f"a remark {n}")) for n, pair in enumerate(PAIRS)]))
    with pytest.raises(ValueError, match="3 of its columns hold texts"):
        read(path)


@pytest.mark.parametrize("num_records", [1, 2, 10**6])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_headers_of_files_that_were_joined_are_no_pairs(tmp_path: Path, num_records: int, mark: bytes) -> None:
    parts = [lines(["\t".join(pair) for pair in [("en", "fr"), *part]]) for part in (SENTENCES[:3], SENTENCES[3:])]
    (tmp_path / "pairs.tsv").write_bytes(b"".join(mark + part for part in parts))
    drops = Drops()
    pairs = read_pieces(BitextSource(path=tmp_path / "pairs.tsv", language="fr"), drops, num_records)
    assert [(pair.source, pair.target) for pair in pairs] == SENTENCES
    assert dict(drops) == {"fr: the header, repeated": 1}


SENTENCES = [
    ("A dog runs over the green grass in the park.", "Un chien court sur l'herbe verte dans le parc."),
    ("Two men sit on a wooden bench near the lake.", "Deux hommes sont assis sur un banc près du lac."),
    ("A red car stands in the street before the house.", "Une voiture rouge est dans la rue devant la maison."),
    ("The child eats an apple at the kitchen table.", "L'enfant mange une pomme à la table de la cuisine."),
    ("A cat sleeps on the warm roof above our heads.", "Un chat dort sur le toit chaud au-dessus de nos têtes."),
    ("Many birds fly over the blue sea this evening.", "Beaucoup d'oiseaux volent ce soir sur la mer bleue."),
]


def test_blank_lines_are_no_header_and_may_stand_above_it(tmp_path):
    path = tmp_path / "pairs.tsv"
    lines = ["a dog runs\tun chien court", "", "a cat sleeps\tun chat dort", "  "]
    pairs = [("a dog runs", "un chien court"), ("a cat sleeps", "un chat dort")]
    for above in ([], ["", ""], ["", "en\tfr"], ["", "source\ttarget"]):
        path.write_text("\n".join([*above, *lines]) + "\n")
        assert read(path) == (pairs, {"fr: an empty line": 2 + above.count("")})


@pytest.mark.parametrize("header", ["en\tde", "de\ten", "eng\tdeu\tspa", "en-GB\tde-DE"])
def test_a_header_of_other_languages_is_refused(tmp_path, header):
    """Its first line was taken for a pair, and the German texts for French ones."""
    path = tmp_path / "pairs.tsv"
    path.write_text(f"{header}\na dog\tein Hund\tun perro\na cat\teine Katze\tun gato\n")
    with pytest.raises(ValueError, match="there is no column 'fr' in its first line; known: "):
        read(path)


@pytest.mark.parametrize("write", FORMS)
def test_sides_in_another_language_than_they_are_said_to_be_are_refused(tmp_path: Path, write: Callable) -> None:
    for name, pairs in (
        ("good", SENTENCES),
        ("swapped", [(other, english) for english, other in SENTENCES]),
        ("same", [(english, f"{english} Yes.") for english, _ in SENTENCES]),
    ):
        folder = tmp_path / name
        folder.mkdir()
        path = write(folder, pairs)
        if name == "good":
            assert read(path) == (SENTENCES, {})
        else:
            with pytest.raises(ValueError, match=r"both sides are English|reads as fr|not in en"):
                read(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xliff", "<xliff/>", "xliff2tmx"),
        ("a.po.gz", "", "po2tmx"),
        ("a.csv", "en,fr\n", "to a .tsv"),
        ("a.jsonl", "{}\n", "to a .tsv"),
        ("a.tsv", "<!DOCTYPE html>\n<html>\n</html>\n", "a page of HTML"),
        ("a.tsv", "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 3\n", "git lfs pull"),
        ("a.tmx", "<xliff version='1.2'><file><body/></file></xliff>", "first element is <xliff>"),
    ],
)
def test_files_that_are_no_bitext_are_refused_with_what_is_right(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / name)


def test_further_texts_of_a_unit_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "memory.tmx"
    second = '<tuv xml:lang="fr"><seg>un chien galope</seg></tuv></tu>'
    path.write_bytes(tmx(unit("a dog runs", "un chien court").replace("</tu>", second) + unit("snow", "neige")))
    pairs, drops = read(path)
    assert pairs == [("a dog runs", "un chien court"), ("snow", "neige")]
    assert drops == {"fr: another text in fr of the same unit (the first is read)": 1}


def test_what_nobody_sees_goes_and_what_stands_in_for_a_text_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    bad = [
        ("\u202ea dog", "un chien"),
        ("IMG_1.jpg", "IMG_2.jpg"),
        ("https://a.org/en", "https://a.org/fr"),
        ("a dog\\nA cat", "un chien"),
    ]
    good = [("a dog runs", "un chien court"), ("1984", "1985"), ("AT&T", "ATT"), *SENTENCES]
    pairs = [("a d\u200bog\ufeff ru\u00adns", "un chien\u200e court"), *good[1:], *bad]
    path.write_bytes(lines(["\t".join(pair) for pair in pairs]))
    assert read(path) == (
        good,
        {
            "fr: characters that turn the order of others around": 1,
            "fr: the name of a file": 1,
            "fr: an address": 1,
            "fr: escapes of a program, written out (\\n, \\u00e9)": 1,
        },
    )


def test_words_that_stand_for_nothing_are_words_in_true_pairs(tmp_path: Path) -> None:
    pairs = [
        ("All", "Todo"),
        ("Image", "Imagen"),
        ("Photo", "Foto"),
        ("Unknown", "Desconocido"),
        ("Everything.", "Todo."),
    ]
    path = write_tsv(tmp_path, [*pairs, ("null", "null"), ("Madrid", "Madrid")])
    assert read(path, "es", keep_identical=True) == (
        [*pairs, ("Madrid", "Madrid")],
        {"es: empty, written as nan, null or none": 1},
    )


FRENCH = "Le chien numéro {} court dans la rue avec les enfants et une grande balle rouge"
ENGLISH = "The dog number {} runs in the street with the children and a big red ball"


def test_a_side_in_another_language_than_it_is_said_to_be_is_refused(tmp_path: Path) -> None:
    path = write_tsv(tmp_path, [(ENGLISH.format(n), FRENCH.format(n)) for n in range(300)])
    with pytest.raises(ValueError, match="the other side reads as fr, not as de"):
        read(path, "de")


def test_untranslated_lines_at_the_beginning_do_not_decide(tmp_path: Path) -> None:
    same = [(ENGLISH.format(n), ENGLISH.format(n) + ".") for n in range(200)]
    path = write_tsv(tmp_path, same + [(ENGLISH.format(n), FRENCH.format(n)) for n in range(1000)])
    assert len(read(path, columns=("1", "2"))[0]) == 1200
