"""Settings that depend on each other: one without effect is refused, in configurations and on the command line."""

import dataclasses
from typing import Any

__all__ = ["UnusedSettingError", "refuse_unused"]


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
