"""One chpipe command as an Airflow task."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chpipe_airflow.compat import AirflowException, AirflowFailException, BaseOperator

# dbt's exit code, which is chpipe's, for a model or test that failed; 2 says that chpipe could not do its work.
NODE_FAILED = 1

# The flag of each typed argument, in the order in which the command line names them.
FLAGS = {
    "level": "--level",
    "endpoint": "--endpoint",
    "season": "--season",
    "round": "--round",
    "batch_id": "--batch-id",
    "mode": "--mode",
    "select": "--select",
    "exclude": "--exclude",
    "selector": "--selector",
    "indirect_selection": "--indirect-selection",
    "full_refresh": "--full-refresh",
    "fail_fast": "--fail-fast",
    "variables": "--vars",
    "target": "--target",
    "threads": "--threads",
}

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def _end_with_worker() -> None:
    """In the new process: a worker that is killed outright (out of memory) must not leave chpipe and its queries running."""
    if hasattr(_libc, "prctl"):
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


class ChpipeOperator(BaseOperator):
    """Runs ``chpipe <command>`` in a process group of its own and streams its lines into the task's log.

    :param command: the subcommand: ``extract``, ``migrate``, ``build`` …
    :param level: ``static``, ``season``, ``round``, ``standings``, one or several.
    :param endpoint: endpoints of the API, one or several.
    :param season: ``2024``, ``"1950..1960"``, ``"current"``.
    :param round: ``5``, ``"1..10"``, ``"last"``.
    :param batch_id: a UTC time like ``20241216T120000``; the same for a rerun, which then goes on where it stopped.
    :param mode: ``full`` or ``incremental`` for extract, ``batch`` or ``queue`` for load.
    :param select: dbt's selection, one or several specs.
    :param exclude: what the selection leaves out.
    :param selector: a selector of selectors.yml.
    :param indirect_selection: which tests a selected node brings along.
    :param full_refresh: rebuild incremental models from nothing.
    :param fail_fast: stop at the first failure.
    :param variables: for ``var()``.
    :param target: the target of profiles.yml.
    :param threads: how many nodes, requests or files are worked on at once.
    :param arguments: further arguments, one word each.
    :param project_dir: the folder of dbt_project.yml and chpipe.toml.
    :param artifacts_dir: where each task gets a folder for its artifacts; ``.chpipe/airflow`` in the project folder by default.
    :param binary: the chpipe to run; looked up on PATH.
    :param environment: variables for the process, over the worker's own. Secrets belong into the worker's environment, not here:
        rendered templates are shown in the UI.
    :param retry_failed_nodes: whether exit code 1 (a model or test failed) is retried like any other failure. A failing
        data test does not get better by itself, so by default only code 2 (no connection, no lock, quota …) is retried.
    :param stop_seconds: how long a killed task may take to cancel its queries before its process group is ended. Airflow 3 ends the
        task's own process after 5 seconds.

    Pushes to XCom, for commands that run nodes: ``status``, ``rows`` and ``seconds`` by node, read from run_results.json.
    """

    template_fields: Sequence[str] = (*FLAGS, "arguments", "project_dir", "environment")
    ui_color = "#ffe7ba"

    def __init__(
        self,
        *,
        command: str,
        level: str | Sequence[str] | None = None,
        endpoint: str | Sequence[str] | None = None,
        season: int | str | None = None,
        round: int | str | None = None,
        batch_id: str | None = None,
        mode: str | None = None,
        select: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
        selector: str | None = None,
        indirect_selection: str | None = None,
        full_refresh: bool = False,
        fail_fast: bool = False,
        variables: Mapping[str, Any] | None = None,
        target: str | None = None,
        threads: int | None = None,
        arguments: Sequence[str] = (),
        project_dir: str = ".",
        artifacts_dir: str | None = None,
        binary: str = "chpipe",
        environment: Mapping[str, str] | None = None,
        retry_failed_nodes: bool = False,
        stop_seconds: float = 3.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.command = command
        self.level = level
        self.endpoint = endpoint
        self.season = season
        self.round = round
        self.batch_id = batch_id
        self.mode = mode
        self.select = select
        self.exclude = exclude
        self.selector = selector
        self.indirect_selection = indirect_selection
        self.full_refresh = full_refresh
        self.fail_fast = fail_fast
        self.variables = variables
        self.target = target
        self.threads = threads
        self.arguments = arguments
        self.project_dir = project_dir
        self.artifacts_dir = artifacts_dir
        self.binary = binary
        self.environment = environment
        self.retry_failed_nodes = retry_failed_nodes
        self.stop_seconds = stop_seconds
        self._process: subprocess.Popen[str] | None = None

    def command_line(self) -> list[str]:
        """The command and its arguments, without the binary."""
        line = self.command.split()
        for name, flag in FLAGS.items():
            value = getattr(self, name)
            if value is None or value is False or value == "" or value == []:
                continue
            if value is True:
                line.append(flag)
            elif isinstance(value, Mapping):
                line += [flag, json.dumps(value)]
            elif isinstance(value, (list, tuple)):
                words = [str(word) for word in value]
                # Selection takes several words, the selectors of a listing take commas.
                line += [flag, *words] if name in ("select", "exclude") else [flag, ",".join(words)]
            else:
                line += [flag, str(value)]
        return [*line, *(str(argument) for argument in self.arguments)]

    def execute(self, context: Any) -> dict[str, Any] | None:
        binary = shutil.which(self.binary)
        if binary is None:
            raise AirflowFailException(f"`{self.binary}` is not on the worker's PATH: install chpipe or set binary=")
        target_path = self._target_path(context)
        line = [binary, *self.command_line()]
        environment = {
            **os.environ,
            **(self.environment or {}),
            "DBT_TARGET_PATH": str(target_path),
            "DBT_PROJECT_DIR": str(self.project_dir),
            "NO_COLOR": "1",
        }
        self.log.info("$ %s", " ".join(line))
        self._process = subprocess.Popen(
            line,
            cwd=self.project_dir,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=_end_with_worker,
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
        """SIGINT first: chpipe cancels its queries on the server and says what was finished; then the whole group ends."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        for number, seconds in ((signal.SIGINT, self.stop_seconds), (signal.SIGKILL, 1.0)):
            try:
                os.killpg(process.pid, number)
                process.wait(timeout=seconds)
                return
            except ProcessLookupError:
                return
            except subprocess.TimeoutExpired:
                continue

    def _target_path(self, context: Any) -> Path:
        """A folder for this task's artifacts, so that tasks that run at once do not overwrite each other's."""
        instance = context["ti"]
        run = "".join(c if c.isalnum() or c in "-_" else "_" for c in instance.run_id)
        index = getattr(instance, "map_index", -1)
        name = f"{instance.task_id}.{index}" if index is not None and index >= 0 else instance.task_id
        root = Path(self.artifacts_dir or Path(self.project_dir) / ".chpipe" / "airflow").absolute()
        path = root / instance.dag_id / run / name
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
