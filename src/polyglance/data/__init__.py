"""Build data sets: from a synthetic world, from tables of one's own, and by translating and aligning captions.

What leaves this package is a directory of shards with a manifest (`polyglance.data.shard`); the stages after it read
nothing else.
"""
