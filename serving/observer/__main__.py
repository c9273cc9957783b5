"""``python -m lastgood.serving.observer``."""

import sys

from lastgood.serving.observer.program import main

if __name__ == "__main__":
    sys.exit(main())
