"""Image captioning for languages that have no captions: build data, train, measure what emerges, fit its laws, plan.

Importing this package loads nothing heavy: torch and transformers are imported by the parts that need them.
transformers' Auto classes know the model all the same (see `polyglance.registration`).
"""

from polyglance.registration import register_with_auto_classes

__version__ = "0.1.0"

register_with_auto_classes()
