"""The same project under astronomer-cosmos, with chpipe as its dbt. (Airflow reads only files that name airflow and dag.)"""

from __future__ import annotations

import os
import shutil
from datetime import datetime

from cosmos import DbtDag, ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig
from cosmos.constants import InvocationMode, LoadMode

PROJECT_DIR = os.environ["CHPIPE_PROJECT_DIR"]
CHPIPE = shutil.which("chpipe")

dag = DbtDag(
    dag_id="f1_cosmos",
    schedule=None,
    start_date=datetime(2024, 1, 1),
    project_config=ProjectConfig(dbt_project_path=PROJECT_DIR, install_dbt_deps=False),
    profile_config=ProfileConfig(profile_name="chpipe", target_name="dev", profiles_yml_filepath=f"{PROJECT_DIR}/profiles.yml"),
    # cosmos asks chpipe for the graph, and runs each node with it.
    render_config=RenderConfig(
        load_method=LoadMode.DBT_LS, dbt_executable_path=CHPIPE, invocation_mode=InvocationMode.SUBPROCESS, select=["stg_circuits+"]
    ),
    execution_config=ExecutionConfig(dbt_executable_path=CHPIPE, invocation_mode=InvocationMode.SUBPROCESS),
)
