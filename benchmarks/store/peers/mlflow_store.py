"""Logs each file as an artifact of a run of its own, as MLflow's models are; prints their bytes. `mlflow_store.py FOLDER FILE…`."""

import sys
from pathlib import Path

import mlflow

folder = Path(sys.argv[1])
folder.mkdir()
mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
experiment = mlflow.create_experiment("store", artifact_location=(folder / "artifacts").as_uri())
for file in sys.argv[2:]:
    with mlflow.start_run(experiment_id=experiment):
        mlflow.log_artifact(file)
print(sum(path.stat().st_size for path in (folder / "artifacts").rglob("*") if path.is_file()))
