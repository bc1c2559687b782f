"""The history, season by season: started by hand with a first and a last season, and once a year by itself."""

from __future__ import annotations

from datetime import datetime, timedelta

from chpipe_airflow.compat import DAG, Param, deadline, task
from chpipe_airflow.f1 import API_POOL, BATCH_ID, DEFAULT_ARGS, PROJECT_DIR, extract, in_order, warehouse_tasks
from chpipe_airflow.operator import ChpipeOperator

WITHIN = timedelta(hours=24)


def extract_each_season(task_id: str, level: str, seasons, endpoint: str | None = None):
    """One mapped task a season."""
    return ChpipeOperator.partial(
        task_id=task_id,
        command="extract",
        level=level,
        endpoint=endpoint,
        batch_id=BATCH_ID,
        project_dir=PROJECT_DIR,
        pool=API_POOL,
        max_active_tis_per_dag=1,
        map_index_template="{{ task.season }}",
    ).expand(season=seasons)


with DAG(
    dag_id="f1_backfill_pipeline",
    description="Formula 1 history to tested gold tables",
    doc_md=__doc__,
    schedule="0 3 15 1 *",
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=1,
    # The API's quota makes the whole history a matter of a day; a run that takes twice that is stuck.
    dagrun_timeout=timedelta(hours=48),
    params={
        "from_season": Param(1950, type="integer", minimum=1950, maximum=2100, title="First season"),
        "to_season": Param(
            None, type=["null", "integer"], minimum=1950, maximum=2100, title="Last season", description="Default: this year"
        ),
    },
    tags=["f1", "chpipe"],
    default_args=DEFAULT_ARGS,
    **deadline(WITHIN),
) as dag:

    @task
    def list_seasons(params=None, dag_run=None) -> list[int]:
        """The seasons from first to last."""
        due = getattr(dag_run, "logical_date", None) or dag_run.run_after
        first, last = int(params["from_season"]), int(params["to_season"] or due.year)
        if first > last:
            raise ValueError(f"from_season {first} is after to_season {last}")
        return list(range(first, last + 1))

    seasons = list_seasons()
    in_order(
        [
            extract("extract_static", "static"),
            extract_each_season("extract_season", "season", seasons, "constructors,drivers"),
            extract_each_season("extract_races", "season", seasons, "races"),
            extract_each_season("extract_race_data", "round", seasons),
            extract_each_season("extract_standings", "standings", seasons),
            *warehouse_tasks(WITHIN),
        ]
    )
