"""Losses: each takes a model's outputs and the batch and gives named scalars."""
