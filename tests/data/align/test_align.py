"""Alignment: exact search is brute force, the approximate one nearly so, and hubs are kept down."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyglance.data.align import (
    AlignConfig,
    AlignResult,
    Embeddings,
    FaissConfig,
    HubConfig,
    TunedSearch,
    build_index,
    search,
    select,
    tune_search,
)
from polyglance.data.align import exact as exact_module
from polyglance.data.align.hubs import choose_within_caps, rescale

needs_faiss = pytest.mark.skipif(
    importlib.util.find_spec("faiss") is None, reason="the extra `search` is not installed"
)


def align(images: Embeddings, sentences: Embeddings, config: AlignConfig) -> AlignResult:
    return select(search(images, sentences, config), images, sentences, config)


def unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def brute_force(images: np.ndarray, sentences: np.ndarray, top_n: int) -> tuple[np.ndarray, np.ndarray]:
    """Sentence numbers and scores, best first, equal scores by number."""
    scores = np.einsum("nd,md->nm", unit(images), unit(sentences)).astype(np.float32)
    order = np.stack([np.lexsort((np.arange(len(sentences)), -row)) for row in scores])[:, :top_n]
    return order, np.take_along_axis(scores, order, axis=1)


def as_parts(rows: np.ndarray, cuts: list[int], folder: Path) -> Embeddings:
    parts = []
    for number, part in enumerate(np.split(rows, cuts)):
        if number % 2:
            parts.append(part)
        else:
            parts.append(folder / f"part-{number}.npy")
            np.save(parts[-1], part)
    return Embeddings(parts)


def clustered(num_rows: int, dim: int, num_centres: int, seed: int, spread: float = 0.5) -> np.ndarray:
    rng = np.random.default_rng([7, seed])
    centres = unit(np.random.default_rng(7).standard_normal((num_centres, dim)))
    noise = spread * rng.standard_normal((num_rows, dim)) / np.sqrt(dim)
    return (centres[rng.integers(0, num_centres, num_rows)] + noise).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("blocks", [(512, 4096), (7, 13), (3, 1000)])
def test_exact_search_is_brute_force_in_the_order_of_ties_too(
    dtype: type, blocks: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact_module, "_BLOCK_IMAGES", blocks[0])
    monkeypatch.setattr(exact_module, "_BLOCK_SENTENCES", blocks[1])
    rng = np.random.default_rng(0)
    sentences = rng.standard_normal((700, 24)).astype(dtype)
    sentences[rng.integers(0, 700, 120)] = sentences[rng.integers(0, 700, 120)]  # the same sentence in several places
    sentences = np.concatenate((sentences, np.repeat(sentences[:1], 8, axis=0)))
    images = np.concatenate((sentences[:40], rng.standard_normal((21, 24)))).astype(dtype)
    result = align(Embeddings(images), as_parts(sentences, [0, 5, 300], tmp_path), AlignConfig(top_n=9))
    ids, scores = brute_force(images, sentences, 9)
    assert np.array_equal(result.image_index, np.repeat(np.arange(61), 9))
    assert np.array_equal(result.sentence_id.reshape(61, 9), ids)
    assert np.array_equal(result.score.reshape(61, 9), scores)


@given(st.lists(st.integers(-2, 2), min_size=8, max_size=160), st.integers(1, 12))
def test_exact_search_with_many_ties_in_any_order(numbers: list[int], top_n: int) -> None:
    rows = np.array(numbers[: len(numbers) // 2 * 2], dtype=np.float32).reshape(-1, 2)
    rows[~rows.any(axis=1)] = 1
    result = align(Embeddings(rows[:3]), Embeddings(rows), AlignConfig(top_n=top_n))
    ids, scores = brute_force(rows[:3], rows, top_n)
    assert np.array_equal(result.sentence_id, ids.ravel())
    assert np.array_equal(result.score, scores.ravel())


def test_blocks_that_hold_all_of_the_best_and_then_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact_module, "_BLOCK_SENTENCES", 64)
    angles = np.concatenate((np.linspace(1, 1.5, 640), np.linspace(0, 0.9, 200), np.linspace(1, 1.5, 640)))
    sentences = np.stack((np.cos(angles), np.sin(angles)), axis=1).astype(np.float32)
    images = np.array([[1, 0], [0.8, 0.6]], dtype=np.float32)
    result = align(Embeddings(images), Embeddings(sentences), AlignConfig(top_n=50))
    ids, _ = brute_force(images, sentences, 50)
    assert np.array_equal(result.sentence_id.reshape(2, 50), ids)


def test_of_many_equal_sentences_the_first_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact_module, "_BLOCK_SENTENCES", 64)
    rng = np.random.default_rng(0)
    sentences = np.eye(4, dtype=np.float32)[rng.integers(0, 4, 900)]
    result = align(Embeddings(sentences[:9]), Embeddings(sentences), AlignConfig(top_n=40))
    for image, ids in enumerate(result.sentence_id.reshape(9, 40)):
        assert np.array_equal(ids, np.flatnonzero(sentences @ sentences[image])[:40])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((2, 4), np.float32), "table 0: row 0 is zero or not finite"),
        (np.array([[1, 0], [np.nan, 1]], np.float16), "table 0: row 1 is zero or not finite"),
        (np.ones((2, 4), np.float64), "float64 of shape"),
        (np.ones(4, np.float32), "expected rows of float16 or float32"),
        (np.empty((0, 4), np.float32), "1 images and 0 sentences"),
        (np.ones((2, 3), np.float32), "images have embeddings of 4 numbers and sentences of 3"),
    ],
)
def test_embeddings_that_cannot_be_compared_are_refused(rows: np.ndarray, message: str) -> None:
    images = np.ones((1, rows.shape[-1] if rows.shape[-1] == 2 else 4), np.float32)
    with pytest.raises(ValueError, match=message):
        search(Embeddings(images), Embeddings(rows), AlignConfig())


def test_a_file_cut_short_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((100, 8), np.float32))
    content = (tmp_path / "a.npy").read_bytes()
    for wrong in (content[:-5], b"", b"text"):
        (tmp_path / "a.npy").write_bytes(wrong)
        with pytest.raises(ValueError, match=r"a\.npy: not a whole \.npy file"):
            Embeddings(tmp_path / "a.npy")


pairs = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 4)), max_size=40, unique_by=lambda p: p[:2]
)


@given(pairs, st.integers(1, 3), st.integers(1, 3) | st.none())
def test_caps_hold_and_no_better_pair_is_left_out(
    pairs: list[tuple[int, int, int]], per_image: int, per_sentence: int | None
) -> None:
    images, sentences, scores = (np.array([pair[side] for pair in pairs], dtype=np.int64) for side in range(3))
    taken = choose_within_caps(
        images, sentences, scores.astype(np.float32), max_per_image=per_image, max_per_sentence=per_sentence
    ).tolist()
    limit = per_sentence or len(pairs)
    rank = {
        pair: place for place, pair in enumerate(sorted(range(len(pairs)), key=lambda p: (-pairs[p][2], *pairs[p][:2])))
    }
    assert taken == sorted(taken, key=lambda pair: (pairs[pair][0], rank[pair]))
    for pair, (image, sentence, _) in enumerate(pairs):
        rivals = [other for other in taken if rank[other] < rank[pair]]
        num_image = sum(pairs[other][0] == image for other in rivals)
        num_sentence = sum(pairs[other][1] == sentence for other in rivals)
        assert (pair in taken) == (num_image < per_image and num_sentence < limit)


@pytest.fixture
def hubs() -> tuple[Embeddings, Embeddings, np.ndarray]:
    """Images and sentences that belong together by number, and a sentence (number 0) that is near to all images."""
    rng = np.random.default_rng(3)
    meanings = unit(rng.standard_normal((150, 40)))
    common = unit(rng.standard_normal((1, 40)))
    images = unit(meanings + 1.2 * common)
    sentences = np.concatenate((common, unit(meanings + 0.5 * unit(rng.standard_normal((150, 40))))))
    true = np.arange(1, 151)
    return Embeddings(images.astype(np.float32)), Embeddings(sentences.astype(np.float32)), true


@pytest.mark.parametrize("rescaling", ["csls", "inverted_softmax"])
def test_rescaling_takes_a_hub_down_and_keeps_the_cosine_on_the_pair(rescaling: str, hubs: tuple) -> None:
    images, sentences, true = hubs
    plain = align(images, sentences, AlignConfig(top_n=1))
    assert np.mean(plain.sentence_id == 0) > 0.9
    config = AlignConfig(top_n=1, hubs=HubConfig(rescaling=rescaling), num_candidates=20)
    result = align(images, sentences, config)
    assert np.mean(result.sentence_id == true) > 0.9
    cosine = np.einsum("nd,nd->n", images.take(result.image_index), sentences.take(result.sentence_id))
    assert np.allclose(result.score, cosine, atol=1e-6)


@pytest.mark.parametrize("rescaling", ["csls", "inverted_softmax"])
def test_rescaled_scores_are_their_formulas(rescaling: str) -> None:
    rng = np.random.default_rng(5)
    images, sentences = rng.standard_normal((6, 4)).astype(np.float32), rng.standard_normal((5, 4)).astype(np.float32)
    config = HubConfig(rescaling=rescaling, num_neighbours=2, inverse_temperature=7)
    pairs = search(Embeddings(images), Embeddings(sentences), AlignConfig(top_n=5))
    result = rescale(
        pairs.image_index, pairs.sentence_id, pairs.score, Embeddings(images), Embeddings(sentences), config, 0
    )
    cosine = unit(images) @ unit(sentences).T
    of_image = np.sort(cosine, axis=1)[:, -2:].mean(axis=1)
    of_sentence = np.sort(cosine, axis=0)[-2:].mean(axis=0)
    csls = 2 * cosine - of_image[:, None] - of_sentence
    softmax = np.log(np.exp(7 * cosine) / np.exp(7 * cosine).mean(axis=0)) / 7
    expected = csls if rescaling == "csls" else softmax
    assert np.allclose(result, expected[pairs.image_index, pairs.sentence_id], atol=1e-5)


def test_a_capped_hub_goes_to_the_images_it_fits_best(hubs: tuple) -> None:
    images, sentences, _ = hubs
    config = AlignConfig(top_n=2, hubs=HubConfig(max_per_sentence=3))
    result = align(images, sentences, config)
    assert np.bincount(result.sentence_id).max() <= 3
    hub = result.image_index[result.sentence_id == 0]
    fit = images.take(np.arange(150)) @ sentences.take(np.array([0]))[0]
    assert set(hub.tolist()) == set(np.argsort(-fit)[:3].tolist())


def test_sets_of_images_one_by_one_equal_all_at_once(hubs: tuple) -> None:
    images, sentences, _ = hubs
    config = AlignConfig(top_n=3, hubs=HubConfig(max_per_sentence=4, rescaling="csls"), min_score=0.1)
    rows = images.all()
    images = Embeddings(rows)
    parts = [search(Embeddings(part), sentences, config) for part in (rows[:60], rows[60:61], rows[61:])]
    result = select(AlignResult.concatenate(parts), images, sentences, config)
    whole = align(images, sentences, config)
    assert result.num_images == whole.num_images == 150
    for name in ("image_index", "sentence_id", "score"):
        assert np.array_equal(getattr(result, name), getattr(whole, name))
    assert whole.score.min() >= 0.1


def pairs_of(result: AlignResult) -> dict[tuple[int, int], float]:
    columns = (values.tolist() for values in (result.image_index, result.sentence_id, result.score))
    return {(image, sentence): score for image, sentence, score in zip(*columns, strict=True)}


def tune_and_search(
    images: Embeddings, sentences: Embeddings, config: AlignConfig, index: Path
) -> tuple[TunedSearch, dict[tuple[int, int], float]]:
    tuned = tune_search(images, sentences, config, index)
    return tuned, pairs_of(search(images, sentences, replace(config, faiss=tuned.config), index))


@needs_faiss
def test_approximate_search_finds_nearly_all_with_exact_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyglance.data.align.approximate._SHARD_ROWS", 3000)
    monkeypatch.setattr("polyglance.data.align.approximate._BLOCK_ROWS", 1000)
    sentences = as_parts(clustered(8000, 16, 60, 1).astype(np.float16), [2500, 2500, 7000], tmp_path)
    images = Embeddings(clustered(300, 16, 60, 2))
    faiss_config = FaissConfig(num_lists=32, num_probes=8, code_bytes=8, num_train=4000, recall=None)
    config = AlignConfig(method="faiss", faiss=faiss_config, num_recall_images=300)
    build_index(sentences, faiss_config, tmp_path / "index", seed=0)
    measured, found = tune_and_search(images, sentences, config, tmp_path / "index")
    true = pairs_of(search(images, sentences, AlignConfig()))
    assert all(true[pair] == score for pair, score in found.items() if pair in true)
    assert measured.config == faiss_config
    assert measured.recall == pytest.approx(len(found.keys() & true.keys()) / len(true))
    assert measured.recall >= 0.95
    poor = replace(config, faiss=replace(faiss_config, num_probes=1))
    worse = tune_search(images, sentences, poor, tmp_path / "index")
    assert worse.recall is not None
    assert worse.recall < measured.recall
    starts = [int(path.stem.removeprefix("shard-")) for path in sorted((tmp_path / "index").glob("shard-*"))]
    assert starts == [0, 3500, 6500]


@needs_faiss
def test_a_search_is_made_thorough_enough_and_measured_on_other_images(tmp_path: Path) -> None:
    """Isotropic vectors, the worst case: nothing is near anything, so lists and codes are of little help."""
    rng = np.random.default_rng(0)
    sentences, images = (Embeddings(rng.standard_normal((n, 32), dtype=np.float32)) for n in (6000, 400))
    poor = FaissConfig(num_lists=64, num_probes=2, code_bytes=8, refine_factor=1, recall=None)
    asked = AlignConfig(method="faiss", faiss=replace(poor, recall=0.95))
    build_index(sentences, poor, tmp_path / "index", seed=0)
    untuned = tune_search(images, sentences, replace(asked, faiss=poor), tmp_path / "index")
    assert untuned.recall is not None
    assert untuned.recall < 0.5
    tuned, found = tune_and_search(images, sentences, asked, tmp_path / "index")
    assert tuned.num_images == 200
    assert tuned.config.num_probes > 2
    assert tuned.config.refine_factor > 1
    true = pairs_of(search(images, sentences, AlignConfig()))
    assert len(found.keys() & true.keys()) / len(true) >= 0.95
    assert tuned.recall == pytest.approx(len(found.keys() & true.keys()) / len(true), abs=0.02)
    assert "of 64 lists: the exact search may well be faster" in tuned.warning

    few = Embeddings(images.all()[:30])
    assert tune_search(few, sentences, asked, tmp_path / "index").num_images == 15
    coarse = FaissConfig(num_lists=64, code_bytes=1, num_probes=64)
    build_index(sentences, coarse, tmp_path / "coarse", seed=0)
    warning = tune_search(few, sentences, replace(asked, faiss=coarse), tmp_path / "coarse").warning
    assert "asked are 0.95" in warning
    assert "\n" not in warning


@needs_faiss
def test_an_index_can_be_moved_and_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    rows, faiss_config = clustered(2000, 8, 20, 1), FaissConfig(num_lists=8, num_probes=8, code_bytes=8)
    config, images = AlignConfig(method="faiss", faiss=faiss_config), Embeddings(clustered(20, 8, 20, 2))
    (tmp_path / "first.partial").mkdir()
    (tmp_path / "first.partial" / "left-by-a-kill").touch()
    for name in ("first", "second"):
        build_index(Embeddings(rows), faiss_config, tmp_path / name, seed=0)
    contents = [[path.read_bytes() for path in sorted((tmp_path / name).iterdir())] for name in ("first", "second")]
    assert contents[0] == contents[1]
    assert len(contents[0]) == 2
    found = search(images, Embeddings(rows), config, tmp_path / "first")
    (tmp_path / "first").rename(tmp_path / "moved")
    assert pairs_of(search(images, Embeddings(rows), config, tmp_path / "moved")) == pairs_of(found)


@needs_faiss
def test_sentences_that_cannot_be_indexed_are_one_line(tmp_path: Path) -> None:
    rows = Embeddings(clustered(200, 8, 20, 1))
    with pytest.raises(ValueError, match="use exact search"):
        build_index(rows, FaissConfig(), tmp_path / "a", seed=0)
    with pytest.raises(ValueError, match="must divide the width"):
        build_index(rows, FaissConfig(code_bytes=3), tmp_path / "a", seed=0)
