"""A gateway whose replicas may go bad: ``python -m lastgood.drill.gateway DIGEST FAULT``."""

import sys

from lastgood.serving.gateway.program import main

if __name__ == "__main__":
    digest, fault = sys.argv[1:3]
    # The fault is the replica program's; the gateway is the product's.
    sys.exit(main(program=(sys.executable, "-P", "-m", "lastgood.drill.replica", digest, fault)))
