"""Alignment: exact search is brute force, the approximate one nearly so, and hubs are kept down."""

import importlib.util
import json
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
    align,
    search,
    select,
    threshold_curve,
    tune_search,
)
from polyglance.data.align import exact as exact_module
from polyglance.data.align.hubs import best_within_caps, rescale

needs_faiss = pytest.mark.skipif(
    importlib.util.find_spec("faiss") is None, reason="the extra `search` is not installed"
)


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
    assert result.recall is None


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
        (np.zeros((2, 4), np.float32), "part 0: row 0 is zero or not finite"),
        (np.array([[1, 0], [np.nan, 1]], np.float16), "part 0: row 1 is zero or not finite"),
        (np.ones((2, 4), np.float64), "float64 of shape"),
        (np.ones(4, np.float32), "rows of float16 or float32 are needed"),
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
    taken = best_within_caps(
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


def test_image_parts_one_by_one_are_all_at_once(hubs: tuple) -> None:
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


def test_threshold_curve_is_what_min_score_leaves(hubs: tuple) -> None:
    images, sentences, _ = hubs
    result = align(images, sentences, AlignConfig(top_n=4))
    curve = threshold_curve(result, num_rows=7)
    assert (curve[0].share_pairs, curve[0].share_images) == (1, 1)
    for row in curve:
        kept = align(images, sentences, AlignConfig(top_n=4, min_score=row.score))
        assert len(kept.score) == pytest.approx(row.share_pairs * 600)
        assert len(np.unique(kept.image_index)) == pytest.approx(row.share_images * 150)
    nothing = align(images, sentences, AlignConfig(min_score=2.0))
    assert (len(nothing.score), threshold_curve(nothing)) == (0, [])


@needs_faiss
def test_approximate_search_finds_nearly_all_with_exact_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyglance.data.align.approximate._SHARD_ROWS", 3000)
    monkeypatch.setattr("polyglance.data.align.approximate._BLOCK_ROWS", 1000)
    sentences = as_parts(clustered(8000, 16, 60, 1).astype(np.float16), [2500, 2500, 7000], tmp_path)
    images = Embeddings(clustered(300, 16, 60, 2))
    faiss_config = FaissConfig(num_lists=32, num_probes=8, code_bytes=8, num_train=4000, recall=None)
    config = AlignConfig(method="faiss", faiss=faiss_config, num_recall_images=300)
    result = search(images, sentences, config, tmp_path / "index")
    truth = search(images, sentences, AlignConfig())
    found = {(i, s): score for i, s, score in zip(result.image_index, result.sentence_id, result.score, strict=True)}
    true = {(i, s): score for i, s, score in zip(truth.image_index, truth.sentence_id, truth.score, strict=True)}
    assert all(true[pair] == score for pair, score in found.items() if pair in true)
    assert result.recall == pytest.approx(len(set(found) & set(true)) / len(true))
    assert result.recall >= 0.95
    poor = AlignConfig(method="faiss", faiss=replace(faiss_config, num_probes=1))
    worse = search(images, sentences, poor, tmp_path / "index")
    assert worse.recall is not None
    assert worse.recall < result.recall
    starts = [int(path.stem.removeprefix("shard-")) for path in sorted((tmp_path / "index").glob("shard-*"))]
    assert starts == [0, 3500, 6500]


@needs_faiss
def test_a_search_is_made_thorough_enough_and_measured_on_other_images(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Isotropic vectors, the worst case: nothing is near anything, so that lists and codes tell little."""
    rng = np.random.default_rng(0)
    sentences, images = (Embeddings(rng.standard_normal((n, 32), dtype=np.float32)) for n in (6000, 400))
    faiss_config = FaissConfig(num_lists=64, num_probes=2, code_bytes=8, refine_factor=1, recall=None)
    config = AlignConfig(method="faiss", faiss=faiss_config)
    poor = search(images, sentences, config, tmp_path / "index")
    assert poor.recall is not None
    assert poor.recall < 0.5
    tuned = tune_search(images, sentences, asking(config, 0.95), tmp_path / "index")
    assert tuned.num_images == 200
    assert tuned.config.num_probes > 2
    assert tuned.config.refine_factor > 1
    found = search(images, sentences, asking(config, 0.95), tmp_path / "index")
    truth = search(images, sentences, AlignConfig())
    pairs, true = (set(zip(r.image_index.tolist(), r.sentence_id.tolist(), strict=True)) for r in (found, truth))
    assert len(pairs & true) / len(true) >= 0.95
    assert found.recall == tuned.recall
    assert found.recall == pytest.approx(len(pairs & true) / len(true), abs=0.02)
    (message,) = caplog.messages
    assert "of 64 lists: the exact search may well be faster" in message

    few = Embeddings(images.all()[:30])
    assert tune_search(few, sentences, asking(config, 0.95), tmp_path / "index").num_images == 15
    lists = FaissConfig(num_lists=64, code_bytes=1, num_probes=64)
    search(few, sentences, replace(config, faiss=lists), tmp_path / "poor-index")
    assert "asked are 0.95" in caplog.messages[-1]
    assert "\n" not in caplog.messages[-1]


def asking(config: AlignConfig, recall: float) -> AlignConfig:
    return replace(config, faiss=replace(config.faiss, recall=recall))


@needs_faiss
def test_an_index_can_be_moved_is_used_again_and_fits_its_sentences_only(tmp_path: Path) -> None:
    rows = clustered(2000, 8, 20, 1)
    config = AlignConfig(method="faiss", faiss=FaissConfig(num_lists=8, num_probes=8, code_bytes=8))
    images = Embeddings(clustered(20, 8, 20, 2))
    (tmp_path / "index.partial").mkdir()
    (tmp_path / "index.partial" / "rest-of-a-killed-run").touch()
    first = search(images, Embeddings(rows), config, tmp_path / "index")
    (tmp_path / "index").rename(tmp_path / "moved")
    stamp = (tmp_path / "moved" / "shard-000000000000.faiss").stat().st_mtime_ns
    second = search(images, Embeddings(rows), config, tmp_path / "moved")
    assert np.array_equal(first.sentence_id, second.sentence_id)
    assert (tmp_path / "moved" / "shard-000000000000.faiss").stat().st_mtime_ns == stamp
    again = search(images, Embeddings(rows), config, tmp_path / "again")
    assert np.array_equal(first.sentence_id, again.sentence_id)
    (shard,) = (tmp_path / "again").glob("shard-*")
    assert shard.read_bytes() == (tmp_path / "moved" / shard.name).read_bytes()
    with pytest.raises(ValueError, match="holds an index of"):
        search(images, Embeddings(rows[:1999]), config, tmp_path / "moved")
    (tmp_path / "moved" / "index.json").write_text(json.dumps(None)[:2])
    with pytest.raises(ValueError, match="holds no index"):
        search(images, Embeddings(rows), config, tmp_path / "moved")


@needs_faiss
def test_what_faiss_cannot_do_is_said_in_one_line(tmp_path: Path) -> None:
    rows = Embeddings(clustered(200, 8, 20, 1))
    with pytest.raises(ValueError, match="use exact search"):
        search(rows, rows, AlignConfig(method="faiss"), tmp_path / "a")
    with pytest.raises(ValueError, match="must divide the width"):
        search(rows, rows, AlignConfig(method="faiss", faiss=FaissConfig(code_bytes=3)), tmp_path / "a")
    with pytest.raises(ValueError, match="folder for its index"):
        search(rows, rows, AlignConfig(method="faiss"))
