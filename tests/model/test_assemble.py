import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import tiny_gemma
from tokenizers import Tokenizer
from torch import Tensor
from transformers import Florence2ForConditionalGeneration, Gemma2ForCausalLM

from polyglance.mixture.prompts import write_prompt
from polyglance.model import Polyglance
from polyglance.model.assemble import assemble_model, build_language_model, insert_language_model, insert_vision_tower
from polyglance.model.checkpoint import Checkpoint
from polyglance.model.config import AssembleConfig
from polyglance.model.convert import convert_key_to_published, convert_to_published
from polyglance.model.generate import load_polyglance
from polyglance.model.micro import MicroConfig
from polyglance.model.processor import Processor


@pytest.fixture(scope="module", params=["bart", "gemma2"])
def assembled(
    request: pytest.FixtureRequest, sources: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Polyglance:
    out = tmp_path_factory.mktemp(request.param) / "model"
    florence, gemma = map(str, sources)
    every = 2 if request.param == "gemma2" else 1
    config = AssembleConfig(florence=florence, gemma=gemma, decoder=request.param, cross_attention_every=every)
    counts = assemble_model(config, out)
    model = load_polyglance(out).eval()
    assert counts.num_parameters == sum(p.numel() for p in model.parameters())
    return model


def test_vision_and_encoder_are_florences(assembled: Polyglance, sources: tuple[Path, Path]) -> None:
    florence = Florence2ForConditionalGeneration.from_pretrained(sources[0]).eval()
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = florence.model.multi_modal_projector(florence.model.vision_tower(pixels).last_hidden_state)
        assert torch.equal(assembled.encode_image(pixels), features)
    encoder = florence.model.language_model.encoder.state_dict()
    for name, tensor in assembled.encoder.state_dict().items():
        assert torch.equal(tensor[: len(encoder[name])], encoder[name]), name


def test_zero_gates_leave_gemma_as_it_is(assembled: Polyglance, sources: tuple[Path, Path]) -> None:
    if assembled.config.decoder_config.model_type != "gemma2":
        pytest.skip("the other decoder has no gates")
    gemma = Gemma2ForCausalLM.from_pretrained(sources[1]).eval()
    ids = torch.randint(3, 150, (2, 9))
    with torch.no_grad():
        logits = assembled(torch.randn(2, 3, 64, 64), ids[:, :4] % 100, decoder_input_ids=ids).logits
        assert float((logits - gemma(ids).logits).abs().max()) <= 1e-5
    for i, layer in enumerate(assembled.decoder.layers):
        assert layer.has_cross_attention == (i % 2 == 0)
        if layer.has_cross_attention:
            norms = layer.post_encoder_attention_layernorm.weight, layer.post_attention_layernorm.weight
            assert torch.equal(*norms)
            assert 0.01 < layer.encoder_attn.k_proj.weight.std() < 0.03
    loss = assembled(torch.randn(1, 3, 64, 64), ids[:1, :4] % 100, labels=ids[:1]).loss
    loss.backward()
    assert float(assembled.decoder.layers[0].encoder_attn_gate.grad.abs()) > 0, "a gate at zero still learns"


def test_rows_are_means_of_the_tokens_that_spell_them(assembled: Polyglance, sources: tuple[Path, Path]) -> None:
    if assembled.config.decoder_config.model_type != "bart":
        pytest.skip("the other decoder brings its own rows")
    old, new = (Tokenizer.from_file(str(folder / "tokenizer.json")) for folder in sources)
    table = load_file(sources[0] / "model.safetensors")["model.language_model.shared.weight"]
    rows = assembled.decoder.embed_tokens.weight
    for new_id, old_id in ((0, 1), (1, 2), (2, 0), (3, 3)):  # pad, eos, bos, unk
        assert torch.equal(rows[new_id], table[old_id])
    for new_id in range(4, new.get_vocab_size()):
        token = new.id_to_token(new_id)
        text = " " + token[1:] if token.startswith("▁") else token
        expected = table[old.encode(text, add_special_tokens=False).ids].mean(0)
        torch.testing.assert_close(rows[new_id], expected, rtol=1e-5, atol=1e-6)
    assert len(rows) == new.get_vocab_size() + 1024
    assert 0.018 < rows[new.get_vocab_size() :].std() < 0.022
    assert torch.equal(rows, assembled.lm_head.weight)


@pytest.mark.parametrize("decoder", ["bart", "gemma2"])
def test_language_tokens_are_rows_of_the_encoder(decoder: Any, sources: tuple[Path, Path], tmp_path: Path) -> None:
    """The model is otherwise the same, and its processor puts the token after the start id."""
    florence, gemma = map(str, sources)
    config = AssembleConfig(florence=florence, gemma=gemma, decoder=decoder)
    assemble_model(config, tmp_path / "plain")
    assemble_model(replace(config, language_tokens=("fr", "German")), tmp_path / "tokens")
    plain, model = (load_polyglance(tmp_path / name).state_dict() for name in ("plain", "tokens"))
    processor = Processor.load(tmp_path / "tokens")
    rows = processor.encoder_tokenizer.get_vocab_size()
    tokens = [processor.encoder_tokenizer.token_to_id(f"<to-{code}>") for code in ("de", "en", "fr")]
    assert tokens == list(range(rows - 3, rows))
    assert len(model["encoder.embed_tokens.weight"]) >= rows
    for name, tensor in plain.items():
        assert torch.equal(model[name][: len(tensor)], tensor[: len(model[name])]), name
    ids = processor.prompt_ids(write_prompt("caption", "fr"))
    other = Processor.load(tmp_path / "plain").prompt_ids(write_prompt("caption", "fr"))
    assert ids == [*processor.config.prompt_start_ids, tokens[2], *other[len(processor.config.prompt_start_ids) :]]
    assert processor.decoder_tokenizer.token_to_id("<to-fr>") is None
    with pytest.raises(ValueError, match="before each prompt, which the published code does not write"):
        convert_to_published(tmp_path / "tokens", tmp_path / "published")
    convert_to_published(tmp_path / "plain", tmp_path / "published")


def test_the_same_every_time_and_another_seed_only_where_drawn(sources: tuple[Path, Path], tmp_path: Path) -> None:
    florence, gemma = map(str, sources)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assemble_model(AssembleConfig(florence=florence, gemma=gemma, seed=seed), tmp_path / name)
    a, b, c = (load_file(tmp_path / name / "model.safetensors") for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    changed = {name for name in a if not torch.equal(a[name], c[name])}
    assert changed == {name for name in a if ".encoder_attn." in name}


def test_layout_of_microsoft(sources: tuple[Path, Path], tmp_path: Path) -> None:
    """Florence-2 as Microsoft published it: the names of the published code, and one shared table."""
    native = load_file(sources[0] / "model.safetensors")
    state, config = {}, json.loads((sources[0] / "config.json").read_text())
    for name, tensor in native.items():
        name = name.removeprefix("model.").replace("multi_modal_projector.", "projector.")
        published = "language_model.model.shared.weight"
        if "shared" not in name:
            published = convert_key_to_published(name.replace("language_model.", ""))
        state[published] = tensor.T.contiguous() if published == "image_projection" else tensor
    state["language_model.final_logits_bias"] = torch.zeros(1, 120)
    save_file(state, tmp_path / "model.safetensors")
    vision = config["vision_config"]
    vision["dim_embed"] = vision.pop("embed_dim")
    vision["visual_temporal_embedding"] = {"max_temporal_embeddings": vision.pop("max_temporal_embeddings")}
    vision["image_pos_embed"] = {"max_pos_embeddings": vision.pop("max_position_embeddings")}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer.json").write_bytes((sources[0] / "tokenizer.json").read_bytes())
    gemma = str(sources[1])
    for name, florence in (("native", str(sources[0])), ("microsoft", str(tmp_path))):
        assemble_model(AssembleConfig(florence=florence, gemma=gemma, decoder="bart"), tmp_path / name)
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("native", "microsoft"))
    assert set(a) == set(b)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_memory_is_that_of_a_shard(tmp_path: Path, sources: tuple[Path, Path]) -> None:
    """A Gemma-2 of 200 MB in shards of 50 MB: a process that assembles needs little more than one that does nothing
    but import, and never the whole model."""
    gemma = Gemma2ForCausalLM(tiny_gemma(hidden_size=512, intermediate_size=4096, num_hidden_layers=6))
    gemma.save_pretrained(tmp_path / "gemma", max_shard_size="50MB")
    (tmp_path / "gemma" / "tokenizer.json").write_bytes((sources[1] / "tokenizer.json").read_bytes())
    shards = list((tmp_path / "gemma").glob("*.safetensors"))
    assert len(shards) > 3
    program = """
import resource, sys
from polyglance.model import assemble, checkpoint, config
checkpoint.write_weights.__kwdefaults__["max_shard_bytes"] = 50_000_000
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assemble.assemble_model(config.AssembleConfig(florence=sys.argv[1], gemma=sys.argv[2]), sys.argv[3])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""
    arguments = [str(sources[0]), str(tmp_path / "gemma"), str(tmp_path / "out")]
    ran = subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True)
    result = sum(path.stat().st_size for path in (tmp_path / "out").glob("*.safetensors"))
    assert result > 150e6
    assert int(ran.stdout) < 2 * 50e6 + 20e6, "one shard to write, a tensor at hand, and the allocator's slack"


@pytest.mark.parametrize("fault", ["shard", "truncated", "nan", "kind", "tokenizer", "taken"])
def test_bad_sources(fault: str, sources: tuple[Path, Path], tmp_path: Path) -> None:
    florence, gemma = tmp_path / "florence", tmp_path / "gemma"
    for source, copy in zip(sources, (florence, gemma), strict=True):
        copy.mkdir()
        for file in source.iterdir():
            (copy / file.name).write_bytes(file.read_bytes())
    shard = next(iter(sorted(gemma.glob("*-00002-of-*.safetensors"))))
    match fault:
        case "shard":
            shard.unlink()
            message = f"{shard.name} is missing"
        case "truncated":
            shard.write_bytes(shard.read_bytes()[:-100])
            message = f"{shard.name}: truncated"
        case "nan":
            state = load_file(shard)
            name, tensor = next(iter(state.items()))
            tensor.view(-1)[0] = float("nan")
            save_file(state, shard, {"format": "pt"})
            message = f"{name}.*not finite"
        case "kind":
            gemma = florence
            message = "not a Gemma-2"
        case "tokenizer":
            (gemma / "tokenizer.json").unlink()
            message = "no such tokenizer"
        case "taken":
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "thesis.tex").write_text("mine")
            message = "exists already"
    with pytest.raises(ValueError, match=message) as error:
        assemble_model(AssembleConfig(florence=str(florence), gemma=str(gemma)), tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out" / "config.json").exists()


def test_language_model_goes_in_and_another_does_not(assembled: Polyglance) -> None:
    if assembled.config.decoder_config.model_type != "gemma2":
        pytest.skip("for the other decoder")
    model = Polyglance(assembled.config).eval()
    gemma = build_language_model(model.config).eval()
    insert_language_model(model, gemma)
    ids = torch.randint(3, 150, (1, 7))
    with torch.no_grad():
        logits = model(torch.randn(1, 3, 64, 64), ids % 100, decoder_input_ids=ids).logits
        torch.testing.assert_close(logits, gemma(ids).logits, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="embed_tokens"):
        insert_language_model(model, Gemma2ForCausalLM(tiny_gemma(vocab_size=99)))


def test_sharded_writing_reads_back(tmp_path: Path) -> None:
    from polyglance.model.checkpoint import new_folder, write_weights

    tensors = {f"t{i}": torch.randn(3, i + 1) for i in range(9)}
    with new_folder(tmp_path / "out") as folder:
        write_weights(folder, tensors.items(), max_shard_bytes=60)
        assert not (tmp_path / "out").exists()
    read = Checkpoint(tmp_path / "out")
    assert list(read) == list(tensors)
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())
    with pytest.raises(RuntimeError, match="stop"), new_folder(tmp_path / "other"):
        raise RuntimeError("stop")
    assert not (tmp_path / "other").exists()


FLORENCE_TABLES = (
    *(f"model.language_model.{name}.weight" for name in ("shared", "encoder.embed_tokens", "decoder.embed_tokens")),
    "lm_head.weight",
)


def rewritten(source: Path, out: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> str:
    """Copy a checkpoint with other tensors, in one file."""
    shutil.copytree(source, out, ignore=shutil.ignore_patterns("model*"))
    save_file(change(dict(Checkpoint(source))), out / "model.safetensors", {"format": "pt"})
    return str(out)


def test_tied_tensors_of_the_sources_under_any_name(sources: tuple[Path, Path], tmp_path: Path) -> None:
    def with_all(state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**state, **{name: state[FLORENCE_TABLES[0]].clone() for name in FLORENCE_TABLES}}

    def under(name: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
        return lambda state: {(name if key == FLORENCE_TABLES[0] else key): it for key, it in state.items()}

    florences = [rewritten(sources[0], tmp_path / "f-all", with_all)]
    florences += [rewritten(sources[0], tmp_path / f"f{i}", under(n)) for i, n in enumerate(FLORENCE_TABLES)]
    table = "model.embed_tokens.weight"
    gemmas = [
        rewritten(sources[1], tmp_path / "bare", lambda state: {k.removeprefix("model."): v for k, v in state.items()}),
        rewritten(
            sources[1],
            tmp_path / "head",
            lambda state: {("lm_head.weight" if k == table else k): v for k, v in state.items()},
        ),
        rewritten(sources[1], tmp_path / "both", lambda state: {**state, "lm_head.weight": state[table].clone()}),
    ]
    for decoder in ("bart", "gemma2"):
        forms = [(str(sources[0]), str(sources[1])), *((florence, str(sources[1])) for florence in florences)]
        forms += [(str(sources[0]), gemma) for gemma in gemmas] if decoder == "gemma2" else []
        made = []
        for number, (florence, gemma) in enumerate(forms):
            out = tmp_path / f"{decoder}-{number}"
            counts = assemble_model(AssembleConfig(florence=florence, gemma=gemma, decoder=decoder), out)
            made.append((counts, (out / "model.safetensors").read_bytes()))
        assert all(one == made[0] for one in made), decoder


def test_untied_heads_of_the_sources_are_said_or_refused(
    sources: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = FLORENCE_TABLES[0]
    head = rewritten(sources[0], tmp_path / "h", lambda state: {**state, "lm_head.weight": state[shared] + 1})
    both = rewritten(sources[0], tmp_path / "d", lambda state: {**state, FLORENCE_TABLES[2]: state[shared] + 1})
    table = "model.embed_tokens.weight"
    gemma = rewritten(sources[1], tmp_path / "g", lambda state: {**state, "lm_head.weight": state[table] + 1})
    assemble_model(AssembleConfig(florence=head, gemma=str(sources[1]), decoder="bart"), tmp_path / "a")
    assert "lm_head.weight is not model.language_model.shared.weight: an untied head" in capsys.readouterr().err
    with pytest.raises(ValueError, match="a Florence-2 has one table for encoder and decoder"):
        assemble_model(AssembleConfig(florence=both, gemma=str(sources[1])), tmp_path / "b")
    with pytest.raises(ValueError, match="its head is not its embedding"):
        assemble_model(AssembleConfig(florence=str(sources[0]), gemma=gemma, decoder="gemma2"), tmp_path / "c")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"decoder": "bart", "cross_attention_every": 3},
            "`cross_attention_every` has no effect unless `dec",
        ),
        ({"decoder": "gemma2", "unused_encoder_rows": 3}, "`unused_encoder_rows` has no effect unless `decoder`"),
        ({"decoder": "gemma2", "unused_decoder_rows": 3}, "`unused_decoder_rows` has no effect unless `decoder`"),
        ({"decoder": "gemma2", "cross_attention_every": 0}, "cross_attention_every is 0; expected 1 or more"),
        ({"decoder": "bart", "unused_encoder_rows": -1}, "unused_encoder_rows is -1; expected 0 or more"),
    ],
)
def test_settings_without_effect_or_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        AssembleConfig(florence="a", gemma="b", **settings)


def test_a_vision_tower_of_another_size_is_refused_in_one_line() -> None:
    model, wider, deeper = (
        Polyglance(MicroConfig(width=32, **sizes).build(13))
        for sizes in ({}, {"vision_width": 64}, {"vision_blocks": 2})
    )
    with pytest.raises(ValueError, match=r"does not fit: .* has ") as error:
        insert_vision_tower(model, wider)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="another kind or depth: one of the two models only has"):
        insert_vision_tower(model, deeper)
