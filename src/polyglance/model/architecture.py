"""The model: image and prompt in, text out. Its components are transformers' own; this file joins them."""

import math
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput
from transformers.models.bart.modeling_bart import BartEncoder, shift_tokens_right

from polyglance.files import DIGESTS_NAME
from polyglance.model.attention import ATTENTION
from polyglance.model.cache import CACHE_ARGUMENT
from polyglance.model.configuration import PolyglanceConfig
from polyglance.model.decoder import build_decoder
from polyglance.model.linear import FewRowsLinear
from polyglance.model.loss import IGNORED, capped_logits, logit_nats, token_nats
from polyglance.model.vision import ImageProjector, build_vision_tower

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
    _supports_sdpa = True
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
        self.lm_head = FewRowsLinear(config.decoder_config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def encode_image(self, pixel_values: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B I E"]:
        """Compute the image tokens that the encoder reads."""
        return self.projector(self.vision_tower(pixel_values))

    def encode(
        self,
        pixel_values: Float[Tensor, "B 3 H W"] | None,
        input_ids: Int[Tensor, "B S"],
        attention_mask: Tensor | None = None,
        image_features: Float[Tensor, "B I E"] | None = None,
        tower_features: Float[Tensor, "B J F"] | None = None,
    ) -> tuple[Float[Tensor, "B N E"], Int[Tensor, "B N"] | None]:
        """Compute encoder states of image and prompt, the image's tokens first, and their mask (1 = real; None = all).

        Args:
            attention_mask: 1 where `input_ids` are real; None: all are.
            image_features: `encode_image` of the pixels, where it was computed before.
            tower_features: `vision_tower` of the pixels, where it was computed before: J places of a square grid, row
                by row. They stay valid while the projector is trained.

        Raises:
            ValueError: no image, or more tokens than the encoder has positions for.
        """
        if image_features is None and tower_features is not None:
            side = math.isqrt(tower_features.shape[1])
            # Not `self.dtype`, that of the first weight: frozen weights may be held in another format.
            grid = tower_features.to(self.encoder.embed_tokens.weight.dtype).transpose(1, 2).unflatten(2, (side, side))
            image_features = self.projector(grid)
        if image_features is None:
            if pixel_values is None:
                raise ValueError("give pixel_values or image_features: every task of this model reads an image")
            image_features = self.encode_image(pixel_values)
        mask = None
        if attention_mask is not None:
            mask = torch.cat([attention_mask.new_ones(image_features.shape[:2]), attention_mask], dim=1)
        embedded = torch.cat([image_features, self.encoder.embed_tokens(input_ids)], dim=1)
        limit = self.config.encoder_config.max_position_embeddings
        if embedded.shape[1] > limit:
            raise ValueError(
                f"image and prompt together are {embedded.shape[1]} tokens; the encoder takes {limit}: shorten the text"
            )
        return self.encoder(inputs_embeds=embedded, attention_mask=mask).last_hidden_state, mask

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
        decoded = self.decoder(
            input_ids=ids,
            attention_mask=ids_mask,
            encoder_hidden_states=states,
            encoder_attention_mask=mask,
            use_cache=cache is not None,
            **{CACHE_ARGUMENT: cache},
        )
        return decoded.last_hidden_state

    def logits(self, hidden_states: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch V"]:
        """Compute logits by the tied head, soft-capped as published."""
        return capped_logits(self.lm_head(hidden_states), self.config.final_logit_softcapping)

    def nats(
        self, states: Float[Tensor, "B N E"], mask: Int[Tensor, "B N"] | None, labels: Int[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]:
        """Compute the cross-entropy of each target token in nats, 0 where the label is `IGNORED`.

        Training and evaluation take all losses of this model from here. With a large vocabulary the logits of all
        tokens are never held at once (`polyglance.model.loss`).

        Args:
            states: encoder states, as `encode` returns them.
            mask: their mask, as `encode` returns it.
        """
        return self._token_nats(self.decode(self._shift(labels), states, mask), labels)

    def forward(
        self,
        pixel_values: Float[Tensor, "B 3 H W"] | None = None,
        input_ids: Int[Tensor, "B S"] | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Int[Tensor, "B T"] | None = None,
        decoder_attention_mask: Tensor | None = None,
        labels: Int[Tensor, "B T"] | None = None,
        image_features: Float[Tensor, "B I E"] | None = None,
        encoder_outputs: BaseModelOutput | tuple[Tensor, ...] | None = None,
        cache: Cache | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool = False,
        return_logits: bool = True,
        **kwargs: Any,  # noqa: ARG002 - `generate` passes more
    ) -> Seq2SeqLMOutput:
        """Compute logits for each target position and, with labels, the mean cross-entropy over those not `IGNORED`.

        Args:
            decoder_input_ids: the target shifted right; None: made from `labels`.
            image_features: `encode_image` of the pixels, where it was computed before.
            encoder_outputs: states of `encode`; `attention_mask` is then the mask over image and prompt.
            cache: keys and values of the tokens before `decoder_input_ids`, to which those of `decoder_input_ids` are
                added; None: a new one if `use_cache`.
            past_key_values: the cache by its name in transformers before 5.24.
            return_logits: False computes the loss alone, as `nats` does. In training the logits of a batch would take
                more memory than the rest of the model.

        Raises:
            ValueError: no image, no prompt or no target given, or too many tokens for the encoder.
        """
        if encoder_outputs is None:
            if input_ids is None:
                raise ValueError("give input_ids: the prompt says which task and language is asked for")
            states, mask = self.encode(pixel_values, input_ids, attention_mask, image_features)
        else:
            states, mask = encoder_outputs[0], attention_mask
        if decoder_input_ids is None:
            if labels is None:
                raise ValueError("give decoder_input_ids or labels")
            decoder_input_ids = self._shift(labels)
        cache = past_key_values if cache is None else cache
        if cache is None and use_cache:
            cache = _new_cache()
        hidden_states = self.decode(decoder_input_ids, states, mask, ids_mask=decoder_attention_mask, cache=cache)
        logits = loss = None
        if return_logits or labels is None:
            logits = self.logits(hidden_states)
        if labels is not None:
            nats = self._token_nats(hidden_states, labels) if logits is None else logit_nats(logits, labels)
            loss = nats.sum() / (labels != IGNORED).sum()
        return Seq2SeqLMOutput(loss=loss, logits=logits, encoder_last_hidden_state=states, **{CACHE_ARGUMENT: cache})

    @torch.no_grad()
    def generate(
        self,
        pixel_values: Float[Tensor, "B 3 H W"] | None = None,
        input_ids: Int[Tensor, "B S"] | None = None,
        attention_mask: Tensor | None = None,
        image_features: Float[Tensor, "B I E"] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Decode with transformers' `generate`, all its options included; `polyglance.model.decoding` is faster.

        This method only encodes image and prompt and makes the cache. Left to itself transformers would take the
        prompt's ids for the decoder's, mask the prompt by the decoder's padding id, and cut the encoder's keys to
        Gemma-2's sliding window.

        Args:
            kwargs: arguments of transformers' `generate`: `decoder_input_ids` (start ids), `num_beams`, ...
        """
        if input_ids is None:
            raise ValueError("give input_ids: the prompt says which task and language is asked for")
        states, mask = self.encode(pixel_values, input_ids, attention_mask, image_features)
        if kwargs.setdefault("use_cache", True):  # the configurations say False, which is for training
            kwargs.setdefault(CACHE_ARGUMENT, _new_cache())
        return super().generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=states), attention_mask=mask, **kwargs
        )

    def get_input_embeddings(self) -> nn.Module:
        return self.decoder.get_submodule("embed_tokens")

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.decoder.embed_tokens = value

    def save_pretrained(self, save_directory: Any, **options: Any) -> None:
        """Save as the library does. A list of digests that the folder may have is removed: its files are new ones."""
        (Path(save_directory) / DIGESTS_NAME).unlink(missing_ok=True)
        super().save_pretrained(save_directory, **options)

    def _shift(self, labels: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
        """Make the decoder's input: the start token, then all labels but the last (official code section 1.9)."""
        return shift_tokens_right(labels, self.config.pad_token_id, self.config.decoder_start_token_id)

    def _token_nats(self, hidden_states: Float[Tensor, "B T D"], labels: Int[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        cap = self.config.final_logit_softcapping
        return token_nats(hidden_states, self.lm_head.weight, labels, softcap=cap)


def _new_cache() -> EncoderDecoderCache:
    """Make a cache for transformers' loops. It keeps every token; masks apply Gemma-2's sliding window."""
    return EncoderDecoderCache(DynamicCache(), DynamicCache())


AutoConfig.register(PolyglanceConfig.model_type, PolyglanceConfig)
AutoModel.register(PolyglanceConfig, Polyglance)
AutoModelForSeq2SeqLM.register(PolyglanceConfig, Polyglance)
