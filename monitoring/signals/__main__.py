"""
Write the configurations of Prometheus and Alertmanager for other addresses than the local stack's.

    python -m lastgood.monitoring.signals FOLDER [--gateway HOST:PORT] [--alertmanager HOST:PORT] [--token-file PATH] [--oncall]

The defaults are the service names of containers; without ``--oncall`` they give what is committed in ``deploy/signals``.
With it, whom to tell is read from ``lastgood.toml``, whose secret files must then be absolute paths as Alertmanager sees
them.
"""

import argparse
import sys
from pathlib import Path
from typing import Final

from lastgood.errors import LastgoodError
from lastgood.monitoring.signals.configuration import Signals, write_configuration
from lastgood.settings import load_settings

COMPOSE: Final = Signals("gateway:8002", "alertmanager:9093", token_file=Path("/run/secrets/lastgood_token"))


def main() -> int:
    """Write the three files; give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gateway", default=COMPOSE.gateway)
    parser.add_argument("--alertmanager", default=COMPOSE.alertmanager)
    parser.add_argument("--token-file", type=Path, default=COMPOSE.token_file)
    parser.add_argument("--oncall", action="store_true", help="tell whom lastgood.toml names")
    arguments = parser.parse_args()
    try:
        oncall = load_settings().people if arguments.oncall else COMPOSE.oncall
    except LastgoodError as exc:
        sys.stderr.write(f"{exc}  [{exc.code}]\n")
        return exc.exit_code
    write_configuration(
        arguments.folder, Signals(arguments.gateway, arguments.alertmanager, token_file=arguments.token_file, oncall=oncall)
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
