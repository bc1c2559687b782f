"""The history, season by season: started by hand with a first and a last season, and once a year by itself."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow import DAG
from chpipe_airflow.f1 import API_POOL, BATCH_ID, DEFAULT_ARGS, PROJECT_DIR, chpipe, warehouse_tasks
from chpipe_airflow.operator import ChpipeOperator

try:  # Airflow 3
    from airflow.sdk import Param, task
except ImportError:  # Airflow 2.10
    from airflow.decorators import task
    from airflow.models.param import Param


def per_season(task_id: str, level: str, *more: str):
    """One mapped task for each season."""
    return ChpipeOperator.partial(
        task_id=task_id, command="extract", project_dir=PROJECT_DIR, pool=API_POOL, max_active_tis_per_dag=1
    ).expand(arguments=arguments.override(task_id=f"{task_id}_arguments")(seasons, ["--level", level, *more]))


with DAG(
    dag_id="f1_backfill_pipeline",
    description="Formula 1 history to tested gold tables",
    doc_md=__doc__,
    schedule="0 3 15 1 *",
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=1,
    # The API's quota makes the whole history a matter of 19 hours; a run that takes twice that is stuck.
    dagrun_timeout=timedelta(hours=48),
    default_args={**DEFAULT_ARGS, "retries": max(DEFAULT_ARGS["retries"], 1)},
    params={
        "from_season": Param(1950, type="integer", minimum=1950, maximum=2100, title="First season"),
        "to_season": Param(2025, type="integer", minimum=1950, maximum=2100, title="Last season"),
    },
    render_template_as_native_obj=False,
    tags=["f1", "chpipe"],
) as dag:

    @task(task_id="list_seasons")
    def list_seasons(params=None) -> list[int]:
        """The seasons from first to last."""
        first, last = int(params["from_season"]), int(params["to_season"])
        if first > last:
            raise ValueError(f"from_season {first} is after to_season {last}")
        return list(range(first, last + 1))

    @task
    def arguments(years: list[int], selection: list[str]) -> list[list[str]]:
        """The arguments of each mapped task; the batch id is rendered when that task runs."""
        return [[*selection, "--season", str(year), "--batch-id", BATCH_ID] for year in years]

    seasons = list_seasons()
    extract_static = chpipe("extract_static", "extract", "--level", "static", "--batch-id", BATCH_ID, api=True)
    extract_season = per_season("extract_season", "season", "--endpoint", "constructors,drivers")
    extract_races = per_season("extract_races", "season", "--endpoint", "races")
    extract_race_data = per_season("extract_race_data", "round")
    extract_standings = per_season("extract_standings", "standings")
    transform = chpipe("transform", "transform")

    extract_static >> extract_season >> extract_races >> extract_race_data >> extract_standings >> transform
    previous = transform
    for step in warehouse_tasks():
        previous >> step
        previous = step
