"""Blocks that several models share, in plain torch."""
