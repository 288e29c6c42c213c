"""Evaluates a checkpoint under a named protocol: python eval.py --help."""

import os

# Hydra's short errors hide the cause of a failing instantiation.
os.environ.setdefault("HYDRA_FULL_ERROR", "1")

import hydra
from omegaconf import DictConfig

from rsvlm import run


@hydra.main(version_base="1.3", config_path="conf", config_name="eval")
def main(cfg: DictConfig) -> None:
    """Hydra's entry; conf/eval.yaml lists the words."""
    run.evaluate(cfg)


if __name__ == "__main__":
    run.entry(main)
