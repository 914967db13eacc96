"""The model: image and prompt in, text out. Parts are the library's; this file joins them."""

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput
from transformers.models.bart.modeling_bart import BartEncoder, shift_tokens_right

from polyglance.model.cache import ImageCache
from polyglance.model.configuration import PolyglanceConfig
from polyglance.model.decoder import decoder
from polyglance.model.linear import FewRowsLinear
from polyglance.model.loss import IGNORED, head_loss
from polyglance.model.search import Decoding
from polyglance.model.vision import ImageProjector, vision_tower

__all__ = ["IGNORED", "Polyglance"]


class Polyglance(Decoding, PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """Vision tower -> projector -> [image; prompt] -> encoder -> decoder by cross-attention -> tied head.

    The wiring is the published one (official code sections 1.2 to 1.6); sizes and kinds of the parts are the
    configuration's. Letters: B batch, S prompt tokens, I image tokens, N = I + S, T target tokens, V vocabulary.
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
        self.vision_tower = vision_tower(config.vision_config)
        self.projector = ImageProjector(
            config.vision_config, width=config.encoder_config.d_model, max_grid=config.max_image_grid
        )
        self.encoder = BartEncoder(config.encoder_config)
        self.decoder = decoder(config.decoder_config)
        self.lm_head = FewRowsLinear(config.decoder_config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def encode_image(self, pixel_values: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B I E"]:
        """Image tokens as the encoder reads them."""
        return self.projector(self.vision_tower(pixel_values))

    def encode(
        self,
        pixel_values: Float[Tensor, "B 3 H W"] | None,
        input_ids: Int[Tensor, "B S"],
        attention_mask: Tensor | None = None,
        image_features: Float[Tensor, "B I E"] | None = None,
        tower_features: Float[Tensor, "B J F"] | None = None,
    ) -> tuple[Float[Tensor, "B N E"], Int[Tensor, "B N"] | None]:
        """Encoder states of image and prompt, the image's tokens first, and their mask (1 = real; None = all are).

        Args:
            image_features: `encode_image` of the pixels, where they are computed once and kept.
            tower_features: `vision_tower` of the pixels as a sequence of J grid places, row by row, of a square grid:
                what can be kept while the projector is still trained.
        """
        if image_features is None and tower_features is not None:
            side = math.isqrt(tower_features.shape[1])
            grid = tower_features.to(self.dtype).transpose(1, 2).unflatten(2, (side, side))
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

    def logits(self, hidden_states: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch V"]:
        """The tied head, soft-capped as published."""
        logits = self.lm_head(hidden_states)
        cap = self.config.final_logit_softcapping
        return logits if cap is None else cap * torch.tanh(logits / cap)

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
        past_key_values: Cache | None = None,
        use_cache: bool = False,
        return_logits: bool = True,
        **kwargs: Any,  # noqa: ARG002 - what `generate` passes along
    ) -> Seq2SeqLMOutput:
        """Logits for each target position and, with labels, the mean cross-entropy over those not `IGNORED`.

        Args:
            return_logits: False computes the loss alone, in chunks (`polyglance.model.loss`): for training, where the
                logits of a batch would take more memory than the rest of the model.
            decoder_input_ids: the target shifted right; made from `labels` where it is left out.
            image_features: `encode_image` of the pixels, where they are computed once and kept.
            encoder_outputs: states of `encode`; `attention_mask` is then the mask over image and prompt.

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
            decoder_input_ids = shift_tokens_right(labels, self.config.pad_token_id, self.config.decoder_start_token_id)
        decoded = self.decoder(
            input_ids=decoder_input_ids,
            attention_mask=decoder_attention_mask,
            encoder_hidden_states=states,
            encoder_attention_mask=mask,
            past_key_values=past_key_values,
            use_cache=use_cache,
        )
        logits = loss = None
        if return_logits or labels is None:
            logits = self.logits(decoded.last_hidden_state)
        if labels is not None:
            loss = self._loss(decoded.last_hidden_state, logits, labels)
        return Seq2SeqLMOutput(
            loss=loss, logits=logits, past_key_values=decoded.past_key_values, encoder_last_hidden_state=states
        )

    def _loss(
        self, hidden_states: Float[Tensor, "B T D"], logits: Float[Tensor, "B T V"] | None, labels: Int[Tensor, "B T"]
    ) -> Float[Tensor, ""]:
        if logits is None:
            cap = self.config.final_logit_softcapping
            return head_loss(hidden_states, self.lm_head.weight, labels, softcap=cap)
        return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED)

    @torch.no_grad()
    def generate(
        self,
        pixel_values: Float[Tensor, "B 3 H W"] | None = None,
        input_ids: Int[Tensor, "B S"] | None = None,
        attention_mask: Tensor | None = None,
        image_features: Float[Tensor, "B I E"] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Decode with transformers' `generate` (greedy, beams, sampling, cached): image and prompt are read once.

        Args:
            kwargs: what transformers' generate takes: `decoder_input_ids` (a language prefix), `num_beams`, ...
        """
        if input_ids is None:
            raise ValueError("give input_ids: the prompt says which task and language is asked for")
        states, mask = self.encode(pixel_values, input_ids, attention_mask, image_features)
        if kwargs.setdefault("use_cache", True):  # the configurations say False, which is for training
            kwargs["past_key_values"] = ImageCache()
        return super().generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=states), attention_mask=mask, **kwargs
        )

    def get_encoder(self, modality: str | None = None) -> nn.Module:  # noqa: ARG002
        return self.encoder

    def get_input_embeddings(self) -> nn.Module:
        return self.decoder.get_submodule("embed_tokens")

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.decoder.embed_tokens = value

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head


AutoConfig.register(PolyglanceConfig.model_type, PolyglanceConfig)
AutoModel.register(PolyglanceConfig, Polyglance)
AutoModelForSeq2SeqLM.register(PolyglanceConfig, Polyglance)
