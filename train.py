"""`rsvlm train` from a clone: python train.py --help."""

from rsvlm.app.entry import main

if __name__ == "__main__":
    main("train")
