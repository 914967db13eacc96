"""Engines that write, translate and compare texts: checkpoint folders, a server, or the built-in world's grammars.

    translator = EngineConfig(kind="nllb", path=Path("nllb-200-3.3B")).translator()
    translator.translate(["A dog sits on the bank."], language="de")

What they can be asked is in `polyglance.engines.protocol`. Importing this loads neither torch nor transformers.
"""

from polyglance.engines.config import EngineConfig
from polyglance.engines.protocol import Captioner, Embedder, Failure, Translator

__all__ = ["Captioner", "Embedder", "EngineConfig", "Failure", "Translator"]
