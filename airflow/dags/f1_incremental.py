"""The latest round and the standings, daily in the racing season (March to November)."""

from __future__ import annotations

from datetime import datetime, timedelta

from chpipe_airflow.compat import DAG, deadline
from chpipe_airflow.f1 import DEFAULT_ARGS, extract, in_order, warehouse_tasks

# The year in which the run is due, so that a rerun next year asks for the same season.
CURRENT = {"season": "{{ (dag_run.logical_date or dag_run.run_after).year }}", "mode": "incremental"}

WITHIN = timedelta(hours=2)

with DAG(
    dag_id="f1_incremental",
    description="Latest Formula 1 round and standings to tested gold tables",
    doc_md=__doc__,
    schedule="0 6 * 3-11 *",
    start_date=datetime(2024, 3, 1),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=6),
    tags=["f1", "chpipe"],
    default_args=DEFAULT_ARGS,
    **deadline(WITHIN),
) as dag:
    in_order(
        [
            extract("extract_static", "static"),
            extract("extract_season", "season", endpoint="constructors,drivers", **CURRENT),
            extract("extract_races", "season", endpoint="races", **CURRENT),
            extract("extract_race_data", "round", **CURRENT),
            extract("extract_standings", "standings", **CURRENT),
            *warehouse_tasks(WITHIN),
        ]
    )
