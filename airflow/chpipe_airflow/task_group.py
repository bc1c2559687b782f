"""One task per model, made from the manifest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

try:  # Airflow 3
    from airflow.sdk import TaskGroup
except ImportError:  # Airflow 2.10
    from airflow.utils.task_group import TaskGroup

from chpipe_airflow.operator import ChpipeOperator

COMMAND = {"model": "run", "snapshot": "snapshot", "seed": "seed"}


def chpipe_task_group(
    group_id: str,
    *,
    manifest: str | Path,
    project_dir: str,
    tests: bool = True,
    only: Sequence[str] = (),
    **operator: Any,
) -> TaskGroup:
    """A task group with a task for every model, snapshot and seed of ``manifest.json``, in the order of their refs.

    :param manifest: path of the manifest that ``chpipe parse`` wrote.
    :param tests: whether each node's tests run in a task of their own behind it, and hold back what depends on it.
    :param only: unique ids or tags; all nodes where empty.
    :param operator: further arguments for each :class:`ChpipeOperator`.
    """
    nodes = json.loads(Path(manifest).read_text())["nodes"]
    chosen = {
        key: node
        for key, node in nodes.items()
        if node["resource_type"] in COMMAND
        and node["config"].get("enabled", True)
        and node["config"].get("materialized") != "ephemeral"
        and (not only or key in only or set(only) & set(node.get("tags", ())))
    }
    tested = {
        parent for node in nodes.values() if node["resource_type"] == "test" for parent in node["depends_on"]["nodes"]
    }
    with TaskGroup(group_id=group_id) as group:
        ends = {}
        starts = {}
        for key, node in chosen.items():
            name = node["name"]
            starts[key] = ends[key] = ChpipeOperator(
                task_id=name,
                command=COMMAND[node["resource_type"]],
                arguments=["--select", name],
                project_dir=project_dir,
                **operator,
            )
            if tests and key in tested:
                ends[key] = ChpipeOperator(
                    task_id=f"test_{name}",
                    command="test",
                    arguments=["--select", name, "--indirect-selection", "cautious"],
                    project_dir=project_dir,
                    **operator,
                )
                starts[key] >> ends[key]
        for key, node in chosen.items():
            for parent in _parents(nodes, key):
                if parent in chosen:
                    ends[parent] >> starts[key]
    return group


def _parents(nodes: dict[str, Any], key: str) -> set[str]:
    """The nodes that ``key`` reads, through ephemeral models."""
    found = set()
    for parent in nodes[key]["depends_on"]["nodes"]:
        node = nodes.get(parent)
        if node is None:
            continue
        if node["config"].get("materialized") == "ephemeral":
            found |= _parents(nodes, parent)
        else:
            found.add(parent)
    return found
