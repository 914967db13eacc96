"""Components of a model: which are trained, which are frozen, and how the optimiser groups their parameters."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from polyglance.model.architecture import Polyglance
from polyglance.model.component_names import COMPONENTS, PUBLISHED_TRAINED, Component

__all__ = [
    "COMPONENTS",
    "POLICIES",
    "PUBLISHED_TRAINED",
    "Component",
    "count_parameters",
    "count_replica_bytes",
    "find_component",
    "freeze",
    "freeze_like",
    "group_parameters",
    "set_train_mode",
]

POLICIES: dict[str, dict[str, tuple[Component, ...]]] = {
    "pre-training": PUBLISHED_TRAINED,
    "everything": {"bart": COMPONENTS, "gemma2": COMPONENTS},
}
"""Trained components by policy and kind of decoder. Published fine-tuning trains the same as pre-training."""


def find_component(name: str) -> Component:
    """Find the component of the parameter with this name.

    `embeddings` is the decoder's token table, tied to the head; the encoder's tables belong to the encoder. The norm
    after cross-attention belongs to cross-attention.
    """
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


def freeze(model: Polyglance, trained: Iterable[Component]) -> None:
    """Freeze all components but the trained ones.

    Raises:
        ValueError: a name that is not a component.
    """
    trained = set(trained)
    if unknown := trained - set(COMPONENTS):
        raise ValueError(f"unknown component {sorted(unknown)[0]!r}; known: {', '.join(COMPONENTS)}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(find_component(name) in trained)


def freeze_like(model: Polyglance, other: Polyglance) -> None:
    """Freeze the parameters that are frozen in another model of the same configuration, and train the others."""
    trained = {name for name, parameter in other.named_parameters() if parameter.requires_grad}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)


def set_train_mode(model: nn.Module) -> None:
    """Put trained modules into training mode, and modules without a trained parameter into eval mode: dropout and
    DropPath of a frozen tower would only add noise."""
    model.train()
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


def count_parameters(model: nn.Module, *, trained_only: bool = False) -> int:
    """Count P, or P_t: unique parameters, tied ones once (paper section 4.1)."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trained_only)


def count_replica_bytes(model: nn.Module, *, is_cast: bool) -> int:
    """Return the memory of an undivided model in training without its activations, in bytes: weights, gradients and two
    moments in float32.

    Args:
        is_cast: the products are in a format of 16 bits, in which autocast keeps a copy of the weights for the step.
    """
    weight_bytes = 4 + 2 * is_cast
    return weight_bytes * count_parameters(model) + 3 * 4 * count_parameters(model, trained_only=True)


def group_parameters(
    model: Polyglance, *, lr: float, weight_decay: float, gate_lr_scale: float = 1.0, published_decay: bool = False
) -> list[dict[str, Any]]:
    """Make the optimiser's groups of trained parameters: decayed matrices, undecayed vectors and tables, gates.

    Norms, biases, embeddings and gates are not decayed: with gates near zero a decoder ignores the image.

    Args:
        gate_lr_scale: learning rate of the gates as a multiple of `lr`. A gate is a single scalar and moves slowly at a
            rate suited to matrices; micro models whose gates start at zero need a higher one.
        published_decay: decay what the published code decays: everything but biases and LayerNorms, so gates, RMSNorms
            after cross-attention and embeddings too (official code section 1.10).
    """
    gates: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    undecayed: list[nn.Parameter] = []
    layer_norms = {id(p) for m in model.modules() if isinstance(m, nn.LayerNorm) for p in m.parameters()}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if find_component(name) == "gates":
            gates.append(parameter)
        elif published_decay:
            (undecayed if "bias" in name or id(parameter) in layer_norms else decayed).append(parameter)
        elif parameter.ndim < 2 or "embed" in name:
            undecayed.append(parameter)
        else:
            decayed.append(parameter)
    groups = [
        {"params": decayed, "lr": lr, "weight_decay": weight_decay},
        {"params": undecayed, "lr": lr, "weight_decay": 0.0},
        {"params": gates, "lr": lr * gate_lr_scale, "weight_decay": weight_decay if published_decay else 0.0},
    ]
    return [group for group in groups if group["params"]]
