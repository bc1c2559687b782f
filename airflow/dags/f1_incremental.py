"""The latest round and the standings, daily in the racing season (March to November)."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow import DAG
from chpipe_airflow.f1 import BATCH_ID, DEFAULT_ARGS, chpipe, warehouse_tasks

SELECT = ["--season", "current", "--mode", "incremental", "--batch-id", BATCH_ID]

with DAG(
    dag_id="f1_incremental",
    description="Latest Formula 1 round and standings to tested gold tables",
    doc_md=__doc__,
    schedule="0 6 * 3-11 *",
    start_date=datetime(2024, 3, 1),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=6),
    default_args=DEFAULT_ARGS,
    tags=["f1", "chpipe"],
) as dag:
    extract_static = chpipe("extract_static", "extract", "--level", "static", "--batch-id", BATCH_ID, api=True)
    extract_season = chpipe(
        "extract_season", "extract", "--level", "season", "--endpoint", "constructors,drivers", *SELECT, api=True
    )
    extract_races = chpipe("extract_races", "extract", "--level", "season", "--endpoint", "races", *SELECT, api=True)
    extract_race_data = chpipe("extract_race_data", "extract", "--level", "round", *SELECT, api=True)
    extract_standings = chpipe("extract_standings", "extract", "--level", "standings", *SELECT, api=True)
    transform = chpipe("transform", "transform")

    extract_static >> extract_season >> extract_races >> extract_race_data >> extract_standings >> transform
    previous = transform
    for task in warehouse_tasks():
        previous >> task
        previous = task
