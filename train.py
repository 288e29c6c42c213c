"""Trains a recipe, or goes on with a run: python train.py --help."""

import os

# Hydra's short errors hide the cause of a failing instantiation.
os.environ.setdefault("HYDRA_FULL_ERROR", "1")

import hydra
from omegaconf import DictConfig

from rsvlm import run


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Hydra's entry; conf/train.yaml lists the words."""
    return run.fit(cfg)


if __name__ == "__main__":
    run.entry(main)
