"""``python -m lastgood.serving.replica FD`` or ``--connect PATH``: one version, served to the gateway that started it."""

import sys

from lastgood.serving.replica.program import main

if __name__ == "__main__":
    sys.exit(main())
