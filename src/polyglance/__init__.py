"""Image captioning for languages that have no captions: build data, train, measure what emerges, fit its laws, plan.

Importing this package loads nothing heavy: torch and transformers are imported by the parts that need them.
"""

__version__ = "0.1.0"
