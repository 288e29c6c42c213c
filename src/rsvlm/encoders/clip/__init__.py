"""CLIP: towers, whole models, layouts of its checkpoints."""
