"""What a model learned: losses per cell, captions, and whether they are in the right language."""
