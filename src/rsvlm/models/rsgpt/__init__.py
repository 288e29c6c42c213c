"""RSGPT: InstructBLIP tuned on detailed captions of aerial images."""
