"""``python -m contextree``: the ``contextree`` command."""

import sys

from contextree.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
