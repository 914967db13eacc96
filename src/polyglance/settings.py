"""Settings that depend on each other: one without effect is refused, in configurations and on the command line."""

import dataclasses
import re
from collections.abc import Collection
from typing import Any

from polyglance.languages import did_you_mean

__all__ = ["UnusedSettingError", "refuse_unknown_slots", "refuse_unused"]


class UnusedSettingError(ValueError):
    """A setting that has no effect, given the others. Its message names settings in backquotes."""


def refuse_unused(config: Any, **conditions: tuple[object, str]) -> None:
    """Refuse settings that have no effect, given the others. A setting at its default value is accepted.

        refuse_unused(self, share=(self.group, "without `group`"))

    Args:
        config: a dataclass.
        conditions: name of a field -> a value that is true if the field has an effect, and the reason if it has none.

    Raises:
        UnusedSettingError: "`share` has no effect without `group`".
    """
    assert conditions.keys() <= {field.name for field in dataclasses.fields(config)}, "each condition is for a field"
    for field in dataclasses.fields(config):
        has_effect, reason = conditions.get(field.name, (True, ""))
        make = field.default_factory
        default = field.default if make is dataclasses.MISSING else make()
        if not has_effect and getattr(config, field.name) != default:
            raise UnusedSettingError(f"`{field.name}` has no effect {reason}")


def refuse_unknown_slots(name: str, template: str, known: Collection[str]) -> None:
    """Refuse a setting with a word in braces that nothing is filled in for.

    Args:
        name: of the setting.
        known: words that something is filled in for.

    Raises:
        ValueError: "checkpoint has {siz}, for which nothing is filled in; did you mean 'size'?"
    """
    for slot in re.findall(r"\{\s*\w*\s*\}", template):
        if slot[1:-1] not in known:
            hint = did_you_mean(slot[1:-1].strip(), known) if known else "write it without braces"
            raise ValueError(f"{name} has {slot}, for which nothing is filled in; {hint}")
