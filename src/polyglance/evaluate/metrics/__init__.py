"""Metrics by name: `make_metric("cider").statistics(hypotheses, references)`.

A metric is added by one class (metric.py says what it needs) and its line in `METRICS`. Its module is imported when it
is asked for.
"""

from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from types import MappingProxyType
from typing import Any, cast

from polyglance.evaluate.metrics.metric import Metric, MetricInput, Statistics
from polyglance.languages import did_you_mean

__all__ = ["METRICS", "Metric", "MetricInput", "Statistics", "make_metric"]

METRICS: Mapping[str, str] = MappingProxyType(
    {
        "cider": "cider:Cider",
        "bleu": "bleu:Bleu",
        "rouge": "rouge:Rouge",
        "sacrebleu": "sacre:SacreBleu",
        "chrf": "sacre:Chrf",
        "meteor": "meteor:Meteor",
        "language": "off_target:OffTarget",
        "external": "external:External",
        "accuracy": "model_based:DisambiguationAccuracy",
        "clipscore": "model_based:ClipScore",
    }
)
"""Name -> module of this package and class in it."""


def make_metric(name: str, **options: Any) -> Metric:
    """Make the metric with this name.

    Args:
        options: fields of its class: `make_metric("sacrebleu", tokenize="zh")`, `make_metric("chrf", word_order=2)`.

    Raises:
        ValueError: unknown name or option (the message says what is near), or a value that the metric refuses.
    """
    if name not in METRICS:
        raise ValueError(f"unknown metric {name!r}: {did_you_mean(name, METRICS)}")
    module, class_name = METRICS[name].split(":")
    cls = getattr(import_module(f"{__name__}.{module}"), class_name)
    known = [field.name for field in fields(cls)]
    for option in options:
        if option not in known:
            hint = did_you_mean(option, known) if known else "it has none"
            raise ValueError(f"{name}: unknown option {option!r}: {hint}")
    return cast(Metric, cls(**options))
