"""`python -m rsvlm` is `rsvlm`."""

import sys

from rsvlm.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
