"""`rsvlm predict` from a clone: python predict.py --help."""

from rsvlm.app.entry import main

if __name__ == "__main__":
    main("predict")
