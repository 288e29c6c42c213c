"""Checkpoints in other projects' layouts."""
