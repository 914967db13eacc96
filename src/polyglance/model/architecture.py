"""The model: image and prompt in, text out. It consists of components of transformers, which this file connects."""

import inspect
import math
from collections.abc import Iterable
from functools import cache as cached
from pathlib import Path
from typing import Any, ClassVar

import torch
from huggingface_hub import HfApi
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    AutoModelForSeq2SeqLM,
    AutoProcessor,
    BartConfig,
    GenerationConfig,
    GenerationMixin,
    PreTrainedModel,
)
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput
from transformers.models.bart.modeling_bart import BartEncoder, shift_tokens_right

from polyglance.files import DIGESTS_NAME
from polyglance.languages import did_you_mean
from polyglance.model.attention import ATTENTION
from polyglance.model.cache import CACHE_ARGUMENT, make_cache
from polyglance.model.configuration import PolyglanceConfig
from polyglance.model.decoder import build_decoder
from polyglance.model.linear import FewRowsLinear, use_few_rows_linear
from polyglance.model.loss import IGNORED, capped_logits, logit_nats, token_nats
from polyglance.model.processor import Processor
from polyglance.model.vision import ImageProjector, build_vision_tower, fill_frame_positions

__all__ = ["IGNORED", "Polyglance"]


class Polyglance(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """Vision tower -> projector -> [image; prompt] -> encoder -> decoder by cross-attention -> tied head.

    The wiring is the published one (official code sections 1.2 to 1.6); sizes and kinds of the components come from the
    configuration. Letters: B batch, S prompt tokens, I image tokens, N = I + S, T target tokens, V vocabulary.
    """

    config_class = PolyglanceConfig
    base_model_prefix = ""
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = True  # Trainer: `forward` divides by `num_items_in_batch`, and takes nothing else
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _no_split_modules: ClassVar = ["BartEncoderLayer", "BartDecoderLayer", "GatedGemma2Layer"]
    _tied_weights_keys: ClassVar = {"lm_head.weight": "decoder.embed_tokens.weight"}

    def __init__(self, config: PolyglanceConfig) -> None:
        super().__init__(config)
        self.vision_tower = build_vision_tower(config.vision_config)
        self.projector = ImageProjector(
            config.vision_config, width=config.encoder_config.d_model, max_grid=config.max_image_grid
        )
        if config.encoder_config._attn_implementation is None:
            config.encoder_config._attn_implementation = ATTENTION
        self.encoder = BartEncoder(config.encoder_config)
        self.decoder = build_decoder(config.decoder_config)
        config.check_widths()
        self.lm_head = FewRowsLinear(config.decoder_config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def encode_image(self, pixel_values: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B I E"]:
        """Compute the image tokens that the encoder reads."""
        return self.projector(self.vision_tower(pixel_values))

    def encode(
        self,
        pixel_values: Float[Tensor, "B 3 H W"] | None,
        input_ids: Int[Tensor, "B S"] | None,
        attention_mask: Tensor | None = None,
        image_features: Float[Tensor, "B I E"] | None = None,
        tower_features: Float[Tensor, "B J F"] | None = None,
        *,
        inputs_embeds: Float[Tensor, "B S E"] | None = None,
    ) -> tuple[Float[Tensor, "B N E"], Int[Tensor, "B N"] | None]:
        """Compute encoder states of image and prompt, the image's tokens first, and their mask (1 = real; None = all).

        Args:
            attention_mask: 1 where `input_ids` are real; None: all are.
            image_features: `encode_image` of the pixels, where it was computed before.
            tower_features: `vision_tower` of the pixels, where it was computed before: J positions of a square grid,
                row by row. They stay valid while the projector is trained.
            inputs_embeds: embeddings of the prompt, instead of `input_ids`.

        Raises:
            ValueError: no image or no prompt, one of them given twice, or more tokens than the encoder has positions
                for.
        """
        output, mask = self._encode(
            attention_mask,
            {"pixel_values": pixel_values, "image_features": image_features, "tower_features": tower_features},
            {"input_ids": input_ids, "inputs_embeds": inputs_embeds},
        )
        return output.last_hidden_state, mask

    def _encode(
        self,
        attention_mask: Tensor | None,
        image: dict[str, Tensor | None],
        prompt: dict[str, Tensor | None],
        **outputs: bool,
    ) -> tuple[BaseModelOutput, Tensor | None]:
        """Run the encoder.

        Args:
            image, prompt: inputs by name; one of each is not None.
            outputs: `output_attentions` and `output_hidden_states`, if requested.
        """
        if _choose(**image) is None:
            raise ValueError("give pixel_values or image_features: every task of this model reads an image")
        if _choose(**prompt) is None:
            raise ValueError("give input_ids: the prompt names the task and the language")
        image_features = image["image_features"]
        if (tower_features := image["tower_features"]) is not None:
            side = math.isqrt(tower_features.shape[1])
            # `self.dtype` is that of the first weight, and frozen weights may be held in another format.
            grid = tower_features.to(self.encoder.embed_tokens.weight.dtype).transpose(1, 2).unflatten(2, (side, side))
            image_features = self.projector(grid.contiguous())  # contiguous as the tower's output is: the same sums
        if (pixel_values := image["pixel_values"]) is not None:
            image_features = self.encode_image(pixel_values)
        assert image_features is not None
        mask = None
        if attention_mask is not None:
            mask = torch.cat([attention_mask.new_ones(image_features.shape[:2]), attention_mask], dim=1)
        words = prompt["inputs_embeds"]
        if words is None:
            words = self.encoder.embed_tokens(prompt["input_ids"])
        embedded = torch.cat([image_features, words], dim=1)
        limit = self.config.encoder_config.max_position_embeddings
        if embedded.shape[1] > limit:
            raise ValueError(
                f"image and prompt together are {embedded.shape[1]} tokens; the encoder takes {limit}: shorten the text"
            )
        return self.encoder(inputs_embeds=embedded, attention_mask=mask, **outputs), mask

    def decode(
        self,
        ids: Int[Tensor, "R T"],
        states: Float[Tensor, "B N E"],
        mask: Tensor | None,
        *,
        ids_mask: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Float[Tensor, "R T D"]:
        """Compute the decoder's hidden states for each position of its input.

        Args:
            ids: the decoder's input, after the tokens that `cache` holds. R is B, or a multiple of it where several
                rows read the same image (`polyglance.model.attention`).
            states: encoder states, as `encode` returns them.
            mask: their mask, as `encode` returns it.
            ids_mask: 1 where `ids` are real; None: all are, or padding is on the right, which no real token sees.
            cache: keys and values of earlier tokens; those of `ids` are written into it.
        """
        return self._decode(states, mask, cache, input_ids=ids, attention_mask=ids_mask).last_hidden_state

    def _decode(self, states: Tensor, mask: Tensor | None, cache: Cache | None, **inputs: Any) -> Any:
        """Run the decoder.

        Args:
            inputs: its other arguments.
        """
        return self.decoder(
            encoder_hidden_states=states,
            encoder_attention_mask=mask,
            use_cache=cache is not None,
            **{CACHE_ARGUMENT: cache},
            **inputs,
        )

    def logits(self, hidden_states: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch V"]:
        """Compute logits by the tied head, soft-capped as published."""
        return capped_logits(self.lm_head(hidden_states), self.config.final_logit_softcapping)

    def nats(
        self,
        states: Float[Tensor, "B N E"],
        mask: Int[Tensor, "B N"] | None,
        labels: Int[Tensor, "B T"],
        *,
        places: Int[Tensor, " K"] | None = None,
    ) -> Float[Tensor, "B T"]:
        """Compute the cross-entropy of each target token in nats, 0 where the label is `IGNORED`.

        All losses of this model, in training and evaluation, are computed here. With a large vocabulary the logits of
        all tokens are never held at once (`polyglance.model.loss`).

        Args:
            states: encoder states, as `encode` returns them.
            mask: their mask, as `encode` returns it.
            places: positions of the labels that count, as in `polyglance.model.loss.token_nats`.
        """
        return self._token_nats(self.decode(self._shift(labels), states, mask), labels, places)

    def forward(
        self,
        pixel_values: Float[Tensor, "B 3 H W"] | None = None,
        input_ids: Int[Tensor, "B S"] | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Int[Tensor, "B T"] | None = None,
        decoder_attention_mask: Tensor | dict[str, Tensor] | None = None,
        labels: Int[Tensor, "B T"] | None = None,
        image_features: Float[Tensor, "B I E"] | None = None,
        encoder_outputs: BaseModelOutput | tuple[Tensor, ...] | None = None,
        cache: Cache | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = False,
        return_logits: bool | None = None,
        *,
        tower_features: Float[Tensor, "B J F"] | None = None,
        inputs_embeds: Float[Tensor, "B S E"] | None = None,
        decoder_inputs_embeds: Float[Tensor, "B T D"] | None = None,
        num_items_in_batch: Tensor | int | None = None,
        logits_to_keep: int | Tensor = 0,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **unknown: Any,
    ) -> Seq2SeqLMOutput | tuple[Any, ...]:
        """Compute logits for each target position and, with labels, the mean cross-entropy over those not `IGNORED`.

        Args:
            decoder_input_ids: the target shifted right; None: made from `labels`.
            image_features: `encode_image` of the pixels, where it was computed before.
            encoder_outputs: states of `encode`; `attention_mask` is then the mask over image and prompt (None: all
                are real), and image and prompt are not given.
            cache: keys and values of the tokens before `decoder_input_ids`, to which those of `decoder_input_ids` are
                added; None: a new one if `use_cache`.
            past_key_values: the cache by its name in transformers before 5.24.
            return_logits: compute logits too, which take most of a training batch's memory; False: the loss alone, as
                `nats` does. None: False in train mode with labels, else True.
            tower_features: as for `encode`.
            inputs_embeds: as for `encode`.
            decoder_inputs_embeds: the same for the decoder.
            num_items_in_batch: number that the sum of the losses is divided by (Trainer); None: labels that count.
            logits_to_keep: number of last positions that get logits, or the positions; 0: all.
            output_attentions: return the attention weights too; only `eager` attention computes them.
            output_hidden_states: return the hidden states of all layers too.
            return_dict: False returns a tuple.

        Raises:
            TypeError: an argument that the model does not have; the message names the nearest one.
            ValueError: image, prompt or target missing or given twice, or too many tokens for the encoder.
        """
        if unknown:
            _refuse_unknown(unknown, set(inspect.signature(self.forward).parameters), "forward")
        outputs = self._requested_outputs(output_attentions, output_hidden_states)
        encoded, mask = self._encode_or_take(
            encoder_outputs,
            attention_mask,
            {"pixel_values": pixel_values, "image_features": image_features, "tower_features": tower_features},
            {"input_ids": input_ids, "inputs_embeds": inputs_embeds},
            outputs,
        )
        cache = _choose(cache=cache, past_key_values=past_key_values)
        if cache is None and use_cache:
            cache = make_cache()
        target = self._choose_target(labels, decoder_input_ids, decoder_inputs_embeds)
        decoded = self._decode(encoded[0], mask, cache, attention_mask=decoder_attention_mask, **target, **outputs)
        hidden_states, logits, loss = decoded.last_hidden_state, None, None
        if labels is None or _first_set(return_logits, not self.training):
            logits = self.logits(_keep_positions(hidden_states, logits_to_keep))
        if labels is not None:
            loss = self._average_nats(hidden_states, logits, labels, num_items_in_batch)
        output = Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            encoder_last_hidden_state=encoded[0],
            decoder_hidden_states=decoded.get("hidden_states"),
            decoder_attentions=decoded.get("attentions"),
            cross_attentions=decoded.get("cross_attentions"),
            encoder_hidden_states=getattr(encoded, "hidden_states", None),
            encoder_attentions=getattr(encoded, "attentions", None),
            **{CACHE_ARGUMENT: cache},
        )
        is_tuple = not (self.config.return_dict if return_dict is None else return_dict)
        return output.to_tuple() if is_tuple else output

    def _average_nats(
        self,
        hidden_states: Float[Tensor, "B T D"],
        logits: Float[Tensor, "B K V"] | None,
        labels: Int[Tensor, "B T"],
        num_items: Tensor | int | None,
    ) -> Float[Tensor, ""]:
        """Compute the sum of the cross-entropies divided by `num_items`, or by the number of labels that count. Logits
        are used if every position has them."""
        if logits is not None and logits.shape[1] == hidden_states.shape[1]:
            nats = logit_nats(logits, labels)
        else:
            nats = self._token_nats(hidden_states, labels)
        return nats.sum() / ((labels != IGNORED).sum() if num_items is None else num_items)

    def _encode_or_take(
        self,
        encoder_outputs: BaseModelOutput | tuple[Tensor, ...] | None,
        attention_mask: Tensor | None,
        image: dict[str, Tensor | None],
        prompt: dict[str, Tensor | None],
        outputs: dict[str, bool],
    ) -> tuple[BaseModelOutput | tuple[Tensor, ...], Tensor | None]:
        """Run the encoder, or take the states that are given, with the mask over image and prompt."""
        if encoder_outputs is None:
            return self._encode(attention_mask, image, prompt, **outputs)
        if unused := [name for name, value in {**image, **prompt}.items() if value is not None]:
            raise ValueError(f"{unused[0]} would have no effect beside encoder_outputs: give one of them")
        states = encoder_outputs[0]
        if attention_mask is not None and attention_mask.shape != states.shape[:2]:
            raise ValueError(
                f"attention_mask has the shape {tuple(attention_mask.shape)}; encoder_outputs need "
                f"{tuple(states.shape[:2])}, image and prompt together (Polyglance.encode returns both)"
            )
        return encoder_outputs, attention_mask

    def _choose_target(
        self, labels: Tensor | None, decoder_input_ids: Tensor | None, decoder_inputs_embeds: Tensor | None
    ) -> dict[str, Tensor]:
        """Return the decoder's input as an argument; made from the labels if nothing else is given."""
        if decoder_input_ids is None and decoder_inputs_embeds is None:
            if labels is None:
                raise ValueError(
                    "give decoder_input_ids or labels (label smoothing of Trainer takes the labels away: its collator "
                    "has to add decoder_input_ids=model.prepare_decoder_input_ids_from_labels(labels))"
                )
            return {"input_ids": self._shift(labels)}
        if decoder_inputs_embeds is None:
            return {"input_ids": decoder_input_ids}  # type: ignore[dict-item]
        _choose(decoder_input_ids=decoder_input_ids, decoder_inputs_embeds=decoder_inputs_embeds)
        return {"inputs_embeds": decoder_inputs_embeds}

    def _requested_outputs(
        self, output_attentions: bool | None = None, output_hidden_states: bool | None = None
    ) -> dict[str, bool]:
        """Return the arguments of encoder and decoder that request further outputs, including those of the
        configuration.

        Raises:
            ValueError: attention weights are requested, but the attention does not compute them.
        """
        asked = {"output_attentions": output_attentions, "output_hidden_states": output_hidden_states}
        outputs = {name: True for name, value in asked.items() if _first_set(value, getattr(self.config, name))}
        kinds = {self.config.encoder_config._attn_implementation, self.config.decoder_config._attn_implementation}
        if "output_attentions" in outputs and kinds != {"eager"}:
            raise ValueError(
                'output_attentions needs the attention that computes weights: model.set_attn_implementation("eager")'
            )
        return outputs

    @torch.no_grad()
    def generate(
        self,
        pixel_values: Float[Tensor, "B 3 H W"] | None = None,
        input_ids: Int[Tensor, "B S"] | None = None,
        attention_mask: Tensor | None = None,
        image_features: Float[Tensor, "B I E"] | None = None,
        *,
        tower_features: Float[Tensor, "B J F"] | None = None,
        inputs_embeds: Float[Tensor, "B S E"] | None = None,
        encoder_outputs: BaseModelOutput | tuple[Tensor, ...] | None = None,
        inputs: Float[Tensor, "B 3 H W"] | None = None,
        labels: Tensor | None = None,  # noqa: ARG002
        generation_config: GenerationConfig | None = None,
        **kwargs: Any,
    ) -> Any:
        """Decode with transformers' `generate`, all its options included; `polyglance.model.decoding` is faster.

        This method only encodes image and prompt. transformers itself would use the prompt's ids as the decoder's, and
        mask the prompt by the decoder's padding id.

        Args:
            tower_features: as for `encode`.
            inputs_embeds: as for `encode`.
            encoder_outputs: as for `forward`.
            inputs: the pixels by transformers' name.
            labels: without effect; Seq2SeqTrainer passes them.
            kwargs: arguments of transformers' `generate`: `decoder_input_ids` (start ids), `num_beams`, ...

        Raises:
            TypeError: an argument that is not known; the message names the nearest one.
            ValueError: an option that this model does not support: `guidance_scale`, `assistant_model`, and starts of
                different lengths in one batch for a BART decoder.
        """
        own = set(inspect.signature(type(self).generate).parameters)
        _refuse_unknown(kwargs, own | _generation_names(), "generate")
        settings = [generation_config or GenerationConfig(), self.generation_config]
        self._check_generation(settings, **kwargs)
        requested = (
            _first_set(kwargs.get(name), *(getattr(one, name, None) for one in settings))
            for name in ("output_attentions", "output_hidden_states")
        )
        encoded, mask = self._encode_or_take(
            encoder_outputs,
            attention_mask,
            {
                "pixel_values": _choose(pixel_values=pixel_values, inputs=inputs),
                "image_features": image_features,
                "tower_features": tower_features,
            },
            {"input_ids": input_ids, "inputs_embeds": inputs_embeds},
            self._requested_outputs(*requested),
        )
        if settings[0].use_cache is None or generation_config is None:
            kwargs.setdefault("use_cache", True)  # the configurations have False, for training
        cache = _choose(cache=kwargs.pop("cache", None), past_key_values=kwargs.pop("past_key_values", None))
        if cache is not None:
            kwargs[CACHE_ARGUMENT] = cache
        if not isinstance(encoded, BaseModelOutput):
            encoded = BaseModelOutput(last_hidden_state=encoded[0])
        return super().generate(
            generation_config=generation_config, encoder_outputs=encoded, attention_mask=mask, **kwargs
        )

    def _check_generation(self, settings: Iterable[GenerationConfig], **kwargs: Any) -> None:
        """Refuse options of transformers' `generate` that this model does not support."""
        guidance = _first_set(kwargs.get("guidance_scale"), *(one.guidance_scale for one in settings))
        if guidance not in (None, 1) or kwargs.get("negative_prompt_ids") is not None:
            raise ValueError("guidance_scale guides decoder-only models, without an image; this model does not take it")
        if kwargs.get("assistant_model") is not None:
            raise ValueError(
                "assistant_model would have to encode the image too, which transformers' assisted decoding cannot "
                "give it; prompt_lookup_num_tokens needs no assistant"
            )
        mask = kwargs.get("decoder_attention_mask")
        if mask is not None and isinstance(self.config.decoder_config, BartConfig) and not mask.all():
            raise ValueError("a BART decoder counts its positions from the left: give starts of one length per batch")

    def _prepare_cache_for_generation(
        self, generation_config: GenerationConfig, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> None:
        """Make the cache that `generate` asks for (a hook of transformers).

        The library's own cache would cut the encoder's keys to Gemma-2's sliding window.
        """
        is_made_here = model_kwargs.get(CACHE_ARGUMENT) is None and generation_config.use_cache is not False
        if is_made_here:
            length = args[-1] if args else kwargs["max_cache_length"]
            model_kwargs[CACHE_ARGUMENT] = make_cache(
                generation_config.cache_implementation,
                config=self.config.decoder_config,
                max_length=max(length, generation_config.max_cache_len or 0),
                options=generation_config.cache_config,
            )
            return
        super()._prepare_cache_for_generation(generation_config, model_kwargs, *args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        fill_frame_positions(module)

    def get_input_embeddings(self) -> nn.Module:
        return self.decoder.get_submodule("embed_tokens")

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.decoder.embed_tokens = value

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Module:
        """Resize the decoder's table and the tied head, as transformers does; the encoder, which has a table of its
        own, has the same method: `model.encoder.resize_token_embeddings(n)`."""
        table = super().resize_token_embeddings(*args, **kwargs)
        use_few_rows_linear(self)  # the library makes a new head
        return table

    def prepare_decoder_input_ids_from_labels(self, labels: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
        """Make the decoder's input; collators of transformers call this."""
        return self._shift(labels)

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoModel") -> None:
        """Do nothing: saved folders have the module that Auto classes import (`polyglance.model.hub_files`). The
        library would copy this file into them."""

    def save_pretrained(self, save_directory: Any, **options: Any) -> None:
        """Save as the library does. If the folder has a list of digests it is removed, because the files are new."""
        (Path(save_directory) / DIGESTS_NAME).unlink(missing_ok=True)
        super().save_pretrained(save_directory, **options)

    def push_to_hub(self, repo_id: str, **options: Any) -> Any:
        """Push as the library does, README.md of the folder that the model was loaded from first: it becomes the card
        (`polyglance model readme`). The library keeps a card that is on the main branch, and writes an empty one
        otherwise; so for another branch or a pull request the card is to be sent by `hf upload`."""
        card = Path(self.name_or_path) / "README.md"
        if card.is_file() and not options.get("revision") and not options.get("create_pr"):
            hub = HfApi(token=options.get("token"))
            repo_id = hub.create_repo(repo_id, private=options.get("private"), exist_ok=True).repo_id
            hub.upload_file(path_or_fileobj=card, path_in_repo=card.name, repo_id=repo_id)
        return super().push_to_hub(repo_id, **options)

    def _shift(self, labels: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
        """Make the decoder's input: the start token, then all labels but the last (official code section 1.9)."""
        return shift_tokens_right(labels, self.config.pad_token_id, self.config.decoder_start_token_id)

    def _token_nats(
        self, hidden_states: Float[Tensor, "B T D"], labels: Int[Tensor, "B T"], places: Tensor | None = None
    ) -> Float[Tensor, "B T"]:
        cap = self.config.final_logit_softcapping
        return token_nats(hidden_states, self.lm_head.weight, labels, softcap=cap, places=places)


def _refuse_unknown(given: Iterable[str], known: set[str], where: str) -> None:
    for name in given:
        if name not in known:
            raise TypeError(f"{where} has no argument {name!r}; {did_you_mean(name, known - {'self', 'unknown'})}")


def _choose(**values: Any) -> Any:
    """Return the one value that is not None; None if all are."""
    given = [name for name, value in values.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"{given[0]} and {given[1]} have the same meaning; give one of them")
    return values[given[0]] if given else None


def _first_set(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _keep_positions(hidden_states: Float[Tensor, "B T D"], kept: int | Tensor) -> Float[Tensor, "B U D"]:
    """Return the hidden states of the last `kept` positions (0: all), or of these positions."""
    if isinstance(kept, int):
        return hidden_states[:, -kept:] if kept else hidden_states
    return hidden_states[:, kept]


@cached
def _generation_names() -> set[str]:
    """Return the names of the arguments that transformers' `generate` knows for an encoder-decoder."""
    of_method = set(inspect.signature(GenerationMixin.generate).parameters) - {"kwargs"}
    of_loops = {"tokenizer", "assistant_tokenizer", "decoder_input_ids", "decoder_attention_mask", "logits_to_keep"}
    settings = {name for name in vars(GenerationConfig()) if not name.startswith("_")}
    return of_method | of_loops | settings | {"cache", "past_key_values"}


AutoConfig.register(PolyglanceConfig.model_type, PolyglanceConfig)
AutoProcessor.register(PolyglanceConfig, Processor)
for auto_class in (AutoModel, AutoModelForSeq2SeqLM, AutoModelForImageTextToText):
    auto_class.register(PolyglanceConfig, Polyglance)
