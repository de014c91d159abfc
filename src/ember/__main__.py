"""Run the ``ember`` command as ``python -m ember``."""

import sys

from ember.cli import main

if __name__ == "__main__":
    sys.exit(main())
