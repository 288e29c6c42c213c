"""Pipelines that build data sets: `rsvlm curate pipeline=<name> input=... out=...`.

`record` is the contract of a stage, `engine` runs a pipeline, docs/curation.md is the guide.
"""
