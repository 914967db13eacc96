"""Texts with ids in the forms that people and publishers write: predictions, references, published data sets.

`text_files` tells the forms apart, and a module reads each; `polyglance score` and the benchmarks read through the same
functions. Nothing here needs the rest of `data`.
"""
