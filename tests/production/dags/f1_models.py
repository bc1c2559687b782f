"""One task per model, from the manifest: all of them are made, and those behind one source are run by the tests."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path

from chpipe_airflow.compat import DAG
from chpipe_airflow.f1 import DEFAULT_ARGS, PROJECT_DIR
from chpipe_airflow.task_group import chpipe_task_group

MANIFEST = Path(os.environ["CHPIPE_TEST_MANIFEST"])
RUN = ["model.f1.stg_circuits", "snapshot.f1.snap_circuits", "model.f1.dim_circuits", "seed.f1.points_exceptions"]
SETTINGS = {"schedule": None, "start_date": datetime(2024, 1, 1), "default_args": DEFAULT_ARGS}

with DAG(dag_id="f1_all_models", **SETTINGS) as everything:
    chpipe_task_group("models", manifest=MANIFEST, project_dir=PROJECT_DIR)

with DAG(dag_id="f1_models", **SETTINGS) as dag:
    chpipe_task_group("models", manifest=MANIFEST, project_dir=PROJECT_DIR, only=RUN)

nodes = json.loads(MANIFEST.read_text())["nodes"].values()
wanted = {f"models.{node['name']}" for node in nodes if node["resource_type"] in ("model", "snapshot", "seed")}
assert wanted == {task for task in everything.task_ids if not task.startswith("models.test_")}, wanted ^ set(everything.task_ids)
assert everything.get_task("models.snap_circuits").upstream_task_ids == {"models.test_stg_circuits"}
assert dag.get_task("models.dim_circuits").upstream_task_ids == {"models.test_snap_circuits"}
