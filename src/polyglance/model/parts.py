"""Named parts of a model: which are trained, which are frozen, and how the optimiser groups them."""

from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn

from polyglance.model.architecture import Polyglance
from polyglance.model.component_names import PARTS, PUBLISHED_TRAINED, Part

__all__ = [
    "PARTS",
    "POLICIES",
    "PUBLISHED_TRAINED",
    "Part",
    "freeze",
    "num_parameters",
    "optimizer_groups",
    "part_of",
    "train_mode",
]

POLICIES: dict[str, dict[str, tuple[Part, ...]]] = {
    "pre-training": PUBLISHED_TRAINED,
    "fine-tuning": PUBLISHED_TRAINED,
    "everything": {"bart": PARTS, "gemma2": PARTS},
}
"""What a phase of training trains, by kind of decoder. The published two are identical."""


def part_of(name: str) -> Part:
    """The part that the parameter of this name belongs to. Embeddings are the decoder's token table, tied to the
    head; the encoder's tables belong to the encoder. The norm after cross-attention belongs to cross-attention."""
    if name.startswith("vision_tower."):
        return "vision"
    if name.startswith("projector."):
        return "projection"
    if name.startswith("encoder."):
        return "encoder"
    if name.startswith(("decoder.embed_tokens.", "lm_head.")):
        return "embeddings"
    if "encoder_attn_gate" in name:
        return "gates"
    if "encoder_attn" in name or "post_encoder_attention_layernorm" in name:
        return "cross_attention"
    return "decoder"


def freeze(model: Polyglance, trained: Iterable[Part]) -> None:
    """Train the named parts and freeze the others.

    Raises:
        ValueError: a name that is not a part.
    """
    trained = set(trained)
    if unknown := trained - set(PARTS):
        raise ValueError(f"unknown part {sorted(unknown)[0]!r}; known: {', '.join(PARTS)}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(part_of(name) in trained)


def train_mode(model: nn.Module, *, published_drop_path: bool = False) -> None:
    """Put what is trained in training mode and what is wholly frozen, with all inside it, in eval mode: dropout and
    DropPath of a frozen tower are noise without purpose.

    Args:
        published_drop_path: leave the frozen tower in training mode, DropPath (up to 0.1) and all, as the published
            code does (official code section 1.10).
    """
    model.train()
    for name, module in model.named_modules():
        parameters = list(module.parameters())
        frozen = parameters and not any(parameter.requires_grad for parameter in parameters)
        if frozen and not (published_drop_path and name.startswith("vision_tower")):
            module.eval()


def num_parameters(model: nn.Module, *, trained_only: bool = False) -> int:
    """P, or P_t: unique parameters, tied ones counted once (paper section 4.1)."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trained_only)


def optimizer_groups(
    model: Polyglance, *, lr: float, weight_decay: float, gate_lr_scale: float = 1.0, published_decay: bool = False
) -> list[dict[str, Any]]:
    """Trained parameters in three groups: decayed matrices, undecayed vectors and tables, gates.

    Norms, biases, embeddings and gates are not decayed: a gate pulled to zero is an image ignored.

    Args:
        gate_lr_scale: the gates' learning rate as a multiple of `lr`. One scalar per layer moves slowly under a rate
            that suits matrices; at micro size a model whose gates start at zero needs more.
        published_decay: decay what the published code decays: everything but biases and LayerNorms, so the gates, the
            RMSNorms after cross-attention and the embeddings too (official code section 1.10).
    """
    gates: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    layer_norms = {id(p) for m in model.modules() if isinstance(m, nn.LayerNorm) for p in m.parameters()}
    for name, parameter in _trained(model):
        if part_of(name) == "gates":
            gates.append(parameter)
        elif published_decay:
            (plain if "bias" in name or id(parameter) in layer_norms else decayed).append(parameter)
        elif parameter.ndim < 2 or "embed" in name:
            plain.append(parameter)
        else:
            decayed.append(parameter)
    groups = [
        {"params": decayed, "lr": lr, "weight_decay": weight_decay},
        {"params": plain, "lr": lr, "weight_decay": 0.0},
        {"params": gates, "lr": lr * gate_lr_scale, "weight_decay": weight_decay if published_decay else 0.0},
    ]
    return [group for group in groups if group["params"]]


def _trained(model: Polyglance) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)
