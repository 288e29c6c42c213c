"""Runs: fit, evaluate, predict, and the folder that a run leaves."""
