"""A model asked: load, predict, image search."""
