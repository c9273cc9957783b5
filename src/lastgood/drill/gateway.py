"""A gateway whose replicas may go bad: ``python -m lastgood.drill.gateway DIGEST FAULT [SEED [SWITCH]]``."""

import sys

from lastgood.serving.gateway.program import main

if __name__ == "__main__":
    digest, fault, seed, switch = (*sys.argv[1:5], *("0", "")[len(sys.argv[3:5]) :])
    # The fault is the replica program's; the gateway is the product's.
    sys.exit(main(program=(sys.executable, "-P", "-m", "lastgood.drill.replica", digest, fault, seed, switch)))
