"""One chpipe command as an Airflow task."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

try:  # Airflow 3
    from airflow.sdk import BaseOperator
except ImportError:  # Airflow 2.10
    from airflow.models.baseoperator import BaseOperator
from airflow.exceptions import AirflowException, AirflowFailException

# dbt's exit codes, which are chpipe's: a model or test failed; chpipe could not do its work.
NODE_FAILED = 1


class ChpipeOperator(BaseOperator):
    """Runs ``chpipe <command>`` in a process group of its own and streams its lines into the task's log.

    :param command: the subcommand: ``extract``, ``migrate``, ``build`` …
    :param arguments: further arguments, one word each: ``["--select", "staging"]``. Templated.
    :param project_dir: the folder of dbt_project.yml and chpipe.toml. Templated.
    :param binary: the chpipe to run; looked up on PATH.
    :param environment: variables for the process, over the worker's own. Templated. Secrets belong into connections or the
        worker's environment, not here: rendered templates are shown in the UI.
    :param retry_failed_nodes: whether exit code 1 (a model or test failed) is retried like any other failure. A failing
        data test does not get better by itself, so by default only code 2 (no connection, no lock, quota …) is retried.
    :param stop_seconds: how long a killed task may take to cancel its queries before its process group is ended.

    Pushes to XCom, for commands that run nodes: ``status``, ``rows`` and ``seconds`` by node, read from run_results.json.
    """

    template_fields: Sequence[str] = ("arguments", "project_dir", "environment")
    ui_color = "#ffe7ba"

    def __init__(
        self,
        *,
        command: str,
        arguments: Sequence[str] = (),
        project_dir: str = ".",
        binary: str = "chpipe",
        environment: Mapping[str, str] | None = None,
        retry_failed_nodes: bool = False,
        stop_seconds: float = 20.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.command = command
        self.arguments = list(arguments)
        self.project_dir = project_dir
        self.binary = binary
        self.environment = dict(environment or {})
        self.retry_failed_nodes = retry_failed_nodes
        self.stop_seconds = stop_seconds
        self._process: subprocess.Popen[str] | None = None

    def execute(self, context: Any) -> dict[str, Any] | None:
        binary = shutil.which(self.binary)
        if binary is None:
            raise AirflowFailException(f"`{self.binary}` is not on the worker's PATH: install chpipe or set binary=")
        target_path = self._target_path(context)
        line = [binary, *self.command.split(), *self.arguments]
        environment = {**os.environ, **self.environment, "DBT_TARGET_PATH": str(target_path), "NO_COLOR": "1"}
        self.log.info("$ %s", " ".join(line))
        self._process = subprocess.Popen(
            line,
            cwd=self.project_dir,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        assert self._process.stdout is not None
        last = ""
        try:
            for text in self._process.stdout:
                last = text.rstrip() or last
                self.log.info("%s", text.rstrip())
            code = self._process.wait()
        except BaseException:
            # A task that is killed by an exception in this thread must not leave a query running.
            self.on_kill()
            raise
        results = self._results(target_path)
        if code == 0:
            return results
        message = f"chpipe {self.command} ended with code {code}: {last}"
        if code == NODE_FAILED and not self.retry_failed_nodes:
            raise AirflowFailException(message)
        raise AirflowException(message)

    def on_kill(self) -> None:
        """SIGINT first: chpipe cancels its queries on the server and says what was finished; then the whole group."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        for number, seconds in ((signal.SIGINT, self.stop_seconds), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                return
            try:
                process.wait(timeout=seconds)
                return
            except subprocess.TimeoutExpired:
                continue

    def _target_path(self, context: Any) -> Path:
        """A folder for this task's artifacts, so that tasks that run at once do not overwrite each other's."""
        instance = context["ti"]
        run = "".join(c if c.isalnum() or c in "-_" else "_" for c in instance.run_id)
        index = getattr(instance, "map_index", -1)
        name = f"{instance.task_id}.{index}" if index is not None and index >= 0 else instance.task_id
        path = Path(self.project_dir).absolute() / ".chpipe" / "airflow" / instance.dag_id / run / name
        path.mkdir(parents=True, exist_ok=True)
        (path / "run_results.json").unlink(missing_ok=True)
        return path

    @staticmethod
    def _results(target_path: Path) -> dict[str, Any] | None:
        """What run_results.json says per node; None for commands that run no nodes."""
        path = target_path / "run_results.json"
        if not path.exists():
            return None
        nodes = json.loads(path.read_text())["results"]
        return {
            "status": {node["unique_id"]: node["status"] for node in nodes},
            "rows": {
                node["unique_id"]: node["adapter_response"]["rows_affected"]
                for node in nodes
                if "rows_affected" in (node.get("adapter_response") or {})
            },
            "seconds": {node["unique_id"]: node["execution_time"] for node in nodes},
        }
