"""metrics.json of a run again, from its predictions, without its model.

The numbers are those of the evaluation to the last digit. --bootstrap gives intervals to a run that
was measured without. --draw also draws the pictures again, which needs the data set's images.
docs/predictions.md says what the files hold.
"""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "a run's metrics.json again, from its predictions"


def add(parser: argparse.ArgumentParser) -> None:
    """Options of `metrics from`."""
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    parser.add_argument(
        "--bootstrap", type=int, help="samples for intervals, 0 for none; the run's by default"
    )
    parser.add_argument("--seed", type=int, help="of the bootstrap; the run's by default")
    parser.add_argument("--draw", action="store_true", help="draw the pictures too")
    parser.add_argument(
        "--config-dir", type=Path, help="your own configurations, whose classes the run used"
    )


def run(args: argparse.Namespace) -> None:
    """Measures each run again."""
    from rsvlm.app.measure import draw_again, measure_again

    for folder in args.runs:
        if args.draw:
            draw_again(folder, args.config_dir)
        measure_again(folder, args.config_dir, bootstrap=args.bootstrap, seed=args.seed)
