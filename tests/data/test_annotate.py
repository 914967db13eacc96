"""Annotations of texts (official code section 2.3), and the published defects that are not repeated."""

from hypothesis import given
from hypothesis import strategies as st

from polyglance.data.annotate import AnnotateConfig, Description, MatchedPair, make_annotations
from polyglance.records import Annotation, Drops

THREE = "A dog runs on the beach. It is brown. The NASA logo is red."
DREI = "Ein Hund läuft am Strand. Er ist braun. Das NASA-Logo ist rot."


def made(
    descriptions: list[Description],
    pairs: list[MatchedPair],
    config: AnnotateConfig | None = None,
    seed: int = 0,
    drops: Drops | None = None,
) -> tuple[Annotation, ...]:
    drops = Drops() if drops is None else drops
    return make_annotations("key", descriptions, pairs, config=config or AnnotateConfig(), seed=seed, drops=drops)


def described(text: str = THREE, **translations: str) -> Description:
    return Description(
        text=text, origin="captioner", translations=tuple((code, t, "mt") for code, t in translations.items())
    )


def pair(number: int, code: str = "fr", score: float = 0.3) -> MatchedPair:
    source, target = f"A source sentence, number {number}.", f"Phrase {number}."
    return MatchedPair(language=code, source=source, target=target, origin="web", score=score)


def test_captions_by_style_each_language_by_its_own_sentences() -> None:
    """One sentence is short, two are detailed, three a paragraph; case is left alone."""
    found = made([described(de="Ein Hund läuft. Er ist braun.")], [])
    captions = {(a.language, a.style): a.text for a in found if a.task == "caption"}
    assert captions == {
        ("en", "short"): "A dog runs on the beach.",
        ("en", "paragraph"): THREE,
        ("de", "short"): "Ein Hund läuft.",
        ("de", "detailed"): "Ein Hund läuft. Er ist braun.",
    }


def test_captions_only_in_the_languages_asked_for() -> None:
    found = made([described(de=DREI, fr="Un chien court.")], [])
    assert {a.language for a in found if a.task == "caption"} == {"en", "de"}
    assert {a.language for a in found if a.task == "translation"} == {"de", "fr"}


def test_shuffled_sentences_stay_aligned() -> None:
    pairs = dict(zip(THREE.split(". "), DREI.split(". "), strict=True))
    for seed in range(20):
        translations = [a for a in made([described(de=DREI)], [], seed=seed) if a.task == "translation"]
        assert (translations[0].source, translations[0].text) == (THREE, DREI)
        for other in translations[1:]:
            assert other.source is not None
            sources, targets = (text.rstrip(".").split(". ") for text in (other.source, other.text))
            assert len(sources) >= 2
            assert [pairs[s].rstrip(".") if s in pairs else pairs[s + "."].rstrip(".") for s in sources] == targets


def test_no_shuffling_where_sentences_were_merged() -> None:
    merged = "Ein Hund läuft am Strand, er ist braun. Das NASA-Logo ist rot."
    assert len([a for a in made([described(de=merged)], []) if a.task == "translation"]) == 1


def test_bitext_pairs_and_paragraphs() -> None:
    found = made([], [pair(1), pair(2), pair(3), pair(4, "zh"), pair(5, "zh", score=0.1)])
    french = [a for a in found if a.language == "fr"]
    assert [a.text for a in french[:3]] == ["Phrase 1.", "Phrase 2.", "Phrase 3."]
    assert len(french) == 4
    assert french[0].score == 0.3
    chinese = [a for a in found if a.language == "zh"]
    assert len(chinese) == 3
    assert " " not in chinese[-1].text.replace("Phrase ", "Phrase")  # joined without a space
    assert chinese[-1].score == 0.1  # a paragraph is as good as its worst sentence


def test_short_and_badly_matched_pairs_are_left_out_and_counted() -> None:
    short = MatchedPair(language="fr", source="Too short, that is it.", target="Court.", origin="web", score=0.9)
    config = AnnotateConfig(min_score=0.2)
    drops = Drops()
    assert made([], [short, pair(1, score=0.19)], config, drops=drops) == ()
    assert {str(text.cell) for text in made([described("A dog.", de="Ein Hund.")], [], config, drops=drops)} == {
        "caption-en",
        "caption-de",
    }
    assert drops.counts == {
        "text: fr: pair with an English side shorter than min_source_characters": 1,
        "text: fr: pair with a score below min_score": 1,
        "text: de: translation of a text shorter than min_source_characters": 1,
    }


@given(st.integers(0, 50), st.integers(0, 3), st.integers(0, 6))
def test_the_same_seed_and_key_give_the_same(seed: int, descriptions: int, pairs: int) -> None:
    given_texts = ([described(de=DREI)] * descriptions, [pair(n) for n in range(pairs)])
    first = made(*given_texts, seed=seed)
    assert first == made(*given_texts, seed=seed)
    assert len(set(first)) == len(first)
