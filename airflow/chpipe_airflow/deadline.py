"""What happens when a DAG run misses its deadline; runs in the triggerer."""

from __future__ import annotations

import logging
from typing import Any

log = logging.getLogger(__name__)


async def report(interval: str, **context: Any) -> None:
    """Logs it; the alert itself is Prometheus's, from Airflow's own count."""
    run = (context.get("context") or {}).get("dag_run") or {}
    log.error("DAG run %s of %s did not end within %s", run.get("dag_run_id"), run.get("dag_id"), interval)
