"""``python -m lastgood.serving.gateway``: serve this project's models."""

import sys

from lastgood.serving.gateway.program import main

if __name__ == "__main__":
    sys.exit(main())
