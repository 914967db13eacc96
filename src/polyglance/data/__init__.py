"""Build data sets: from a synthetic world, from your own tables, and by translating and aligning captions. The result
is a folder of shards with a manifest (`polyglance.data.shard`); later stages read only this folder.
"""
