"""`rsvlm eval` from a clone: python eval.py --help."""

from rsvlm.app.entry import main

if __name__ == "__main__":
    main("eval")
