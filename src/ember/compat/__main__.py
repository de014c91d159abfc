"""Run ``python -m ember.compat script.py [arguments]``."""

import sys

from ember.compat.script import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
