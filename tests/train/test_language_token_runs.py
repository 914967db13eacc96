"""Runs with language tokens: the model that comes out asks as it was trained, and a setting that lies is refused."""

import json
from pathlib import Path

import pytest
from PIL import Image

from polyglance.mixture.config import MixtureConfig
from polyglance.mixture.prompts import write_prompt
from polyglance.model.config import GenerateConfig
from polyglance.model.generate import PolyglanceCaptioner
from polyglance.model.micro import MicroConfig
from polyglance.study.work.measure import train_run
from polyglance.train.config import RunConfig, StartConfig
from tests.train.runs import measured_run


def never() -> bool:
    return False


def make(world: Path, out: Path, **settings: object) -> RunConfig:
    return measured_run(world, out, start=StartConfig(model=MicroConfig(width=16)), num_samples=16, **settings)


@pytest.fixture(scope="module")
def with_tokens(world: Path, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    config = make(world, tmp_path_factory.mktemp("tokens") / "run", language_tokens=True)
    train_run(config, never)
    return config


def test_a_saved_model_reads_the_token_before_every_prompt(with_tokens: RunConfig, tmp_path: Path) -> None:
    captioner = PolyglanceCaptioner.load(with_tokens.out / "checkpoints" / "final")
    tokenizer = captioner.processor.encoder_tokenizer
    token = tokenizer.token_to_id("<to-fr>")
    assert token == tokenizer.get_vocab_size() - 2
    assert captioner.model.config.encoder_config.vocab_size == tokenizer.get_vocab_size()
    assert captioner.processor.prompt_ids(write_prompt("caption", "fr"))[0] == token
    assert (with_tokens.out / "losses.json").is_file()
    asked: list[int] = []
    encode = captioner.model.encode
    captioner.model.encode = lambda pixels, ids, *a: (asked.append(int(ids[0, 0])), encode(pixels, ids, *a))[1]  # type: ignore[method-assign]
    picture, greedy = Image.new("RGB", (32, 32)), GenerateConfig(beams=1, max_new_tokens=2)
    captioner.caption(picture, ["fr"], prefix="none", config=greedy)
    captioner.translate(picture, "a circle", "fr", config=greedy)
    assert asked == [token, token]
    with pytest.raises(ValueError, match=r"no language token for 'de'.* those of en, fr, zh"):
        captioner.caption(picture, ["de"], prefix="none")


def test_another_run_goes_on_from_it_and_a_setting_that_lies_is_refused(
    with_tokens: RunConfig, world: Path, tmp_path: Path
) -> None:
    final = StartConfig(checkpoint=with_tokens.out / "checkpoints" / "final")
    for told in (None, True):
        config = measured_run(world, tmp_path / f"more-{told}", start=final, num_samples=8, language_tokens=told)
        model = train_run(config, never).model
        assert PolyglanceCaptioner.load(model).processor.prompt_ids(write_prompt("caption", "fr"))[0] > 5
    lie = measured_run(world, tmp_path / "lie", start=final, num_samples=8, language_tokens=False)
    with pytest.raises(ValueError, match=r"language_tokens is false, but prompts for .*final begin with them"):
        train_run(lie, never)
    plain = make(world, tmp_path / "plain")
    train_run(plain, never)
    start = StartConfig(checkpoint=plain.out / "checkpoints" / "final")
    lie = measured_run(world, tmp_path / "lie-2", start=start, num_samples=8, language_tokens=True)
    with pytest.raises(
        ValueError, match=r"language_tokens is true, but .*final has none: leave the setting out"
    ) as caught:
        train_run(lie, never)
    assert "\n" not in str(caught.value)


def test_another_setting_is_another_run(with_tokens: RunConfig, world: Path) -> None:
    with pytest.raises(ValueError, match="tokenizer"):
        train_run(make(world, with_tokens.out), never)
    identity = json.loads((with_tokens.out / "settings.json").read_text())
    assert "tokenizer" in identity["inputs"]
    weighted = make(
        world, with_tokens.out, language_tokens=True, mixture=MixtureConfig(batch_size=8, first_token_weight=2.0)
    )
    with pytest.raises(ValueError, match="first_token_weight"):
        train_run(weighted, never)
