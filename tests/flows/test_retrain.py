"""The retrain flow with everything real: gateway, observer, Prefect's server, labels that came as feedback."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from lastgood.flows.updates import is_due
from lastgood.monitoring.predictions.columns import labels_folder, log_folder
from lastgood.monitoring.predictions.read import read_rows
from lastgood.pipelines.update_settings import UpdateSettings
from lastgood.serving.client import Predictor
from lastgood.settings import Settings
from lastgood.stack.services import prefect_environment
from tests.pipelines.updating import PIPELINE, new_rows
from tests.system.conftest import User

UPDATE = """
[models.moving.update]
policy = "incremental"
min_rows = 20
epochs = 12
replay_ratio = 0.5
parameters = { recipe_seed = 2 }

[models.moving.rollout]
steps = [0.5]
step_requests = 20
step_seconds = 0.1
soak_requests = 20
soak_seconds = 0.1
freeze_after = 1
"""


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    """Somebody with the project, and gateway and Prefect up."""
    somebody = User(tmp_path)
    (tmp_path / "moving.py").write_text(PIPELINE, "utf-8")
    (tmp_path / "lastgood.toml").write_text(UPDATE, "utf-8")
    try:
        somebody.run("up", "gateway", "prefect")
        yield somebody
    finally:
        somebody.run("down")


def settings_of(user: User) -> Settings:
    ports: dict[str, Any] = {f"port_{name}": port for name, port in user.ports.items()}
    return Settings(project=user.folder, home=user.home, **ports)


def ask(user: User, count: int, seed: int) -> tuple[float, dict[str, int]]:
    """Ask new rows; give the part that was right, and the labels by the answers' ids."""
    x, y = new_rows(count, seed=seed)
    right = 0
    labels = {}
    with Predictor(settings_of(user)) as predictor:
        for row, label in zip(x, y, strict=True):
            tensor = {"name": "features", "datatype": "FP32", "shape": [1, 6], "data": row.tolist()}
            answer = predictor.infer("moving", [tensor])
            numbers = answer["outputs"][0]["data"]
            right += numbers.index(max(numbers)) == label
            labels[answer["id"]] = int(label)
    return right / count, labels


def tell(user: User, labels: dict[str, int]) -> None:
    """Say what would have been right, and wait until the log has it."""
    settings = settings_of(user)
    with Predictor(settings) as predictor:
        assert len(labels) == predictor.feed_back("moving", labels)
    folder = labels_folder(log_folder(settings.home, "moving"))
    end = time.monotonic() + 60
    while not set(labels) <= set(read_rows(folder, columns=("id",))["id"].tolist()):
        assert time.monotonic() < end
        time.sleep(0.2)


def last_state(user: User, flow: str) -> dict[str, Any]:
    """Give the state of a flow's last run, as Prefect's server has it."""
    with httpx.Client(base_url=f"http://127.0.0.1:{user.ports['prefect']}/api", timeout=20) as client:
        body = {"flows": {"name": {"any_": [flow]}}, "sort": "START_TIME_DESC", "limit": 1}
        (run,) = client.post("/flow_runs/filter", json=body).json()
        return dict(run["state"])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_update_from_what_production_showed(user: User) -> None:
    """Too few rows; then a warm start that learns them; not twice; taken back, frozen, cooling down."""
    user.run("release", "moving", "--set", "recipe=fp32", "--traffic", "evaluation", "--wait", "stable")
    skipped = user.run("retrain", "moving")
    assert "skipped: moving has 0 newly labelled rows" in skipped.stderr
    state = last_state(user, "retrain")
    assert ("COMPLETED", "Skipped") == (state["type"], state["name"])
    assert "0 newly labelled rows" in state["message"]

    before, labels = ask(user, 120, seed=4)
    assert before < 0.7
    tell(user, labels)
    done = json.loads(user.run("retrain", "moving", "--traffic", "evaluation", "--wait", "stable", "--json").stdout)
    assert (2, None) == (done["version"]["number"], done["skipped"])
    assert "stable" == done["rollout"]["rollout"]["state"]
    assert "COMPLETED" == last_state(user, "retrain")["type"]
    told = user.read("show", "moving@live")["record"]["parameters"]["update"]
    assert ("incremental", 120) == (told["policy"], told["used"])
    assert 120 + told["evaluation_traffic"] == told["labelled"]
    assert json.loads(user.run("retrain", "moving", "--json").stdout)["skipped"]["code"] == "pipelines.too-few-rows"
    assert ask(user, 60, seed=5)[0] > 0.85

    take_back(user, version=2)
    frozen = json.loads(user.run("retrain", "moving", "--reason", "schedule", "--json").stdout)
    assert "frozen" == frozen["skipped"]["code"]
    assert "is frozen" in user.run("retrain", "moving", code=6).stderr
    user.run("unfreeze", "moving", "-m", "looked into")
    # What version 2 had learnt from is new to version 1 again, and has been found bad a minute ago.
    cooling = json.loads(user.run("retrain", "moving", "--reason", "schedule", "--json").stdout)
    assert "cooldown" == cooling["skipped"]["code"], cooling
    assert "moving@2" in cooling["skipped"]["sentence"]
    assert "Skipped" == last_state(user, "retrain")["name"]
    drift = json.loads(user.run("retrain", "moving", "--reason", "drift", "--json").stdout)
    assert "not-wanted" == drift["skipped"]["code"]
    runs = {path.name for path in (user.home / "runs").iterdir()}

    (user.folder / "lastgood.toml").write_text(UPDATE.replace("min_rows = 20", 'schedule = "* * * * *"\nmin_rows = 2000'), "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", "from lastgood.flows.updates import updates; print(updates())"],
        cwd=user.folder,
        env={**user.environment, **prefect_environment(settings_of(user))},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "{'moving': 'moving has 120 newly labelled rows" in done.stdout
    assert runs == {path.name for path in (user.home / "runs").iterdir()}


def take_back(user: User, version: int) -> None:
    """Say, as Alertmanager does, that the live version is bad."""
    labels = {"alertname": "LastgoodFailing", "model": "moving", "version": str(version), "action": "rollback"}
    began = datetime.now(UTC) + timedelta(seconds=1)
    alert = {"status": "firing", "labels": labels, "annotations": {"summary": "bad"}, "startsAt": began.isoformat()}
    body = {"version": "4", "status": "firing", "alerts": [alert]}
    httpx.post(f"http://127.0.0.1:{user.ports['control']}/alerts", json=body, timeout=20).raise_for_status()
    end = time.monotonic() + 30
    while {"moving@1": 1.0} != user.serving():
        assert time.monotonic() < end


@pytest.mark.parametrize(
    ("schedule", "moment", "due"),
    [
        ("0 3 * * *", "03:00", True),
        ("0 3 * * *", "03:14", True),
        ("0 3 * * *", "03:15", False),
        ("0 3 * * *", "02:59", False),
        ("*/5 * * * *", "12:30", True),
        (None, "03:00", False),
    ],
)
def test_a_schedule_is_due_once(schedule: str | None, moment: str, due: bool) -> None:  # noqa: FBT001
    """In the quarter of an hour that ends at the flow's own time, and in no other."""
    asked = UpdateSettings(schedule=schedule)
    assert due == is_due(asked, datetime.fromisoformat(f"2026-03-01T{moment}:00+00:00"))
