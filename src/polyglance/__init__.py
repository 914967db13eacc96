"""Image captioning for languages that have no captions: build data, train, measure what emerges, fit its laws, plan.

Importing this package loads nothing heavy: torch and transformers are imported by the modules that need them.
`from polyglance.model import Polyglance` registers the model with transformers' Auto classes.
"""

__version__ = "0.1.0"
