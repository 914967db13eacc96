"""Splits follow from the coverage, whatever it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyglance.coverage import Cell, Coverage
from polyglance.languages import LANGUAGES, XM3600_LANGUAGES, get_language


def names(cells: tuple[Cell, ...]) -> list[str]:
    return [str(cell) for cell in cells]


def test_the_papers_coverage_gives_the_papers_splits() -> None:
    coverage = Coverage(caption=("en", "de"), translation=("de", "fr", "es", "ru", "zh"))
    assert names(coverage.split("UC")) == ["caption-fr", "caption-es", "caption-ru", "caption-zh"]
    assert names(coverage.split("SC")) == ["caption-en", "caption-de"]
    assert names(coverage.split("ST")) == [f"translation-{code}" for code in ("de", "fr", "es", "ru", "zh")]


def test_a_reconstruction_cell_is_trained_but_not_a_translation() -> None:
    coverage = Coverage(caption=("de",), translation=("en", "de", "fr"))
    reconstruction = Cell("translation", "en")
    assert reconstruction in coverage.cells
    assert coverage.split_of(reconstruction) is None
    # English is then trained in "translation" only, so English captions are unseen.
    assert names(coverage.split("UC")) == ["caption-en", "caption-fr"]


codes = st.lists(st.sampled_from(sorted(LANGUAGES)), unique=True).map(tuple)


@given(codes, codes)
def test_splits_of_any_coverage(caption: tuple[str, ...], translation: tuple[str, ...]) -> None:
    if not caption and not translation:
        with pytest.raises(ValueError, match="the coverage is empty"):
            Coverage(caption=caption, translation=translation)
        return
    coverage = Coverage(caption=caption, translation=translation)
    seen, unseen = set(coverage.cells), set(coverage.split("UC"))
    assert not seen & unseen
    assert {cell.language for cell in unseen} == set(translation) - set(caption)
    assert set(coverage.split("ST")) | set(coverage.split("SC")) == seen - {Cell("translation", "en")}
    for cell in seen | unseen:
        assert Cell.parse(str(cell)) == cell


@pytest.mark.parametrize(
    ("code", "hint"), [("grman", "did you mean 'de'?"), ("se", "did you mean 'sv'?"), ("xx", "known: ar, bn, cs")]
)
def test_an_unknown_language_is_answered_with_the_nearest(code: str, hint: str) -> None:
    with pytest.raises(ValueError, match="unknown language") as caught:
        Coverage(caption=(code,))
    assert hint in str(caught.value)


def test_a_repeated_language_is_refused() -> None:
    with pytest.raises(ValueError, match="names 'de' twice"):
        Coverage(caption=("de", "de"))


def test_every_language_has_what_others_need() -> None:
    for code in LANGUAGES:
        entry = get_language(code)
        assert entry.code == code
        assert entry.name
        assert entry.nllb.endswith(entry.script)
        assert entry.prefix == entry.prefix.strip() != ""
        assert not entry.published or entry.published.startswith(entry.prefix)
    assert [code for code, entry in LANGUAGES.items() if entry.published] == ["en", "de", "fr", "es", "ru", "zh"]
    assert [code for code, entry in LANGUAGES.items() if entry.direction == "rtl"] == ["ar", "fa", "he"]
    assert set(XM3600_LANGUAGES) | {"cs"} == set(LANGUAGES)
