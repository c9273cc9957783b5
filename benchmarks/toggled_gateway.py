"""A gateway whose replicas of one digest fail while a file exists: ``python toggled_gateway.py DIGEST FILE``."""

import sys
from pathlib import Path

from lastgood.serving.gateway.program import main

if __name__ == "__main__":
    digest, file = sys.argv[1:3]
    replica = Path(__file__).with_name("toggled_replica.py")
    sys.exit(main(program=(sys.executable, "-P", str(replica), digest, file)))
