"""Makes transformers' Auto classes know the model after `import polyglance`, without importing torch for that.

The model registers itself when `polyglance.model.architecture` is imported, which takes seconds (torch and four
modelling files).
Here we see to it that this happens when a program first asks `AutoConfig` for a configuration, which every Auto class
does before anything else. It cannot happen earlier: while transformers is loading, its classes are not all there.
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["register_with_auto_classes"]

_AUTO = "transformers.models.auto.configuration_auto"
"""The module that holds `AutoConfig`."""


def register_with_auto_classes() -> None:
    """Have the first `AutoConfig.from_pretrained` import the model, whether transformers is loaded or not."""
    if _AUTO in sys.modules:
        _import_model_on_first_use(sys.modules[_AUTO].AutoConfig)
    else:
        sys.meta_path.insert(0, _AutoConfigFinder())


def _import_model_on_first_use(auto_config: Any) -> None:
    original = auto_config.__dict__["from_pretrained"]

    def from_pretrained(cls: Any, *args: Any, **kwargs: Any) -> Any:
        auto_config.from_pretrained = original
        if importlib.util.find_spec("torch"):
            importlib.import_module("polyglance.model.architecture")
        return cls.from_pretrained(*args, **kwargs)

    auto_config.from_pretrained = classmethod(from_pretrained)


class _AutoConfigFinder(MetaPathFinder):
    """Finds nothing itself: lets the other finders find the module, and adds a step to its loading."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if fullname != _AUTO:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _AutoConfigLoader(spec.loader)
        return spec


class _AutoConfigLoader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _import_model_on_first_use(module.AutoConfig)
