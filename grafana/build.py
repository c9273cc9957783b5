"""
Write what Grafana reads: dashboards as JSON and provisioning as YAML.

    python -m lastgood.grafana.build [--runbooks URL] [FOLDER]

The folder is this one unless another is named. The same code gives the same bytes, so a test can say whether what is
committed is fresh.
"""

import argparse
import sys
from pathlib import Path
from typing import Any, Final

import yaml

from lastgood.grafana.alerting import (
    Addresses,
    build_alert_rules,
    build_contact_points,
    build_datasources,
    build_policies,
    build_providers,
)

RUNBOOKS: Final = "docs/runbooks"
_WRITTEN: Final = "# Written by `python -m lastgood.grafana.build`: change the code, not this file.\n"
_RULES: Final = (
    "# One incident pages once: Prometheus' own rules are on by default, these are not, but for LastgoodNotWatched, which Prometheus\n"
    "# cannot have. Without Alertmanager set isPaused to false for the group lastgood-rollback: Grafana then calls the gateway.\n"
)


def render(runbooks: str = RUNBOOKS, addresses: Addresses | None = None) -> dict[str, str]:
    """Give every file's text by its path below the folder."""
    # The SDK is a development dependency; provisioning alone does without.
    from grafana_foundation_sdk.cog.encoder import JSONEncoder

    from lastgood.grafana.overview import build_overview
    from lastgood.grafana.release import build_release

    where = addresses or Addresses()
    dashboards = {"overview": build_overview(runbooks), "release": build_release(runbooks)}
    encoder = JSONEncoder(sort_keys=True, indent=2)
    return {
        **{f"dashboards/{name}.json": f"{encoder.encode(built)}\n" for name, built in dashboards.items()},
        "provisioning/datasources/lastgood.yaml": _dump(build_datasources(where)),
        "provisioning/dashboards/lastgood.yaml": _dump(build_providers(where)),
        "provisioning/alerting/contact-points.yaml": _dump(build_contact_points(where)),
        "provisioning/alerting/policies.yaml": _dump(build_policies()),
        "provisioning/alerting/rules.yaml": _dump(build_alert_rules(runbooks), _RULES),
    }


def _dump(value: dict[str, Any], comment: str = "") -> str:
    return _WRITTEN + comment + yaml.safe_dump(value, sort_keys=False, width=140)


def main() -> int:
    """Write every file; give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--runbooks", default=RUNBOOKS, help="folder or URL of the runbooks, for links")
    arguments = parser.parse_args()
    for name, text in render(arguments.runbooks).items():
        path = arguments.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
