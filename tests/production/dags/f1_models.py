"""One task per model, from the manifest: what docs/operations.md shows; run by the tests."""

from __future__ import annotations

import os
from datetime import datetime

from chpipe_airflow.compat import DAG
from chpipe_airflow.f1 import DEFAULT_ARGS, PROJECT_DIR
from chpipe_airflow.task_group import chpipe_task_group

with DAG(dag_id="f1_models", schedule=None, start_date=datetime(2024, 1, 1), default_args=DEFAULT_ARGS) as dag:
    chpipe_task_group("models", manifest=os.environ["CHPIPE_TEST_MANIFEST"], project_dir=PROJECT_DIR)
