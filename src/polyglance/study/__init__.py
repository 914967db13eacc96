"""A study: a grid of runs, and what is read off it. On top of everything else; nothing imports it."""
