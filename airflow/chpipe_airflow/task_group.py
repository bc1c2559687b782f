"""One task per model, made from the manifest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chpipe_airflow.compat import TaskGroup
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
    :param tests: whether each node's tests run in a task of their own behind it, and hold back what depends on it. A test of several
        nodes (relationships) runs behind the last of them.
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
    ancestors = {key: _ancestors(nodes, key) for key in chosen}
    tests_of: dict[str, list[str]] = {}
    if tests:
        for key, node in nodes.items():
            last = _last(ancestors, _parents(nodes, key)) if node["resource_type"] == "test" else None
            if last is not None:
                tests_of.setdefault(last, []).append(node["name"])
    with TaskGroup(group_id=group_id) as group:
        starts = {}
        ends = {}
        for key, node in chosen.items():
            name = node["name"]
            starts[key] = ends[key] = ChpipeOperator(
                task_id=name, command=COMMAND[node["resource_type"]], select=name, project_dir=project_dir, **operator
            )
            if key in tests_of:
                ends[key] = ChpipeOperator(
                    task_id=f"test_{name}", command="test", select=sorted(tests_of[key]), project_dir=project_dir, **operator
                )
                starts[key] >> ends[key]
        for key in chosen:
            for parent in _parents(nodes, key):
                if parent in chosen:
                    ends[parent] >> starts[key]
    return group


def _last(ancestors: dict[str, set[str]], parents: set[str]) -> str | None:
    """The node behind which a test of ``parents`` can run: the one that comes after all others; none where there is no such node."""
    chosen = parents & ancestors.keys()
    if not chosen or chosen != parents & (chosen | _models(parents)):
        return None
    for key in sorted(chosen):
        if chosen - {key} <= ancestors[key]:
            return key
    # Siblings: none comes after the others, so the test waits for the run of all tests.
    return None


def _models(parents: set[str]) -> set[str]:
    return {parent for parent in parents if not parent.startswith("source.")}


def _ancestors(nodes: dict[str, Any], key: str) -> set[str]:
    found: set[str] = set()
    todo = list(_parents(nodes, key))
    while todo:
        parent = todo.pop()
        if parent not in found:
            found.add(parent)
            todo += _parents(nodes, parent)
    return found


def _parents(nodes: dict[str, Any], key: str) -> set[str]:
    """The nodes that ``key`` reads, through ephemeral models; a seed reads none and has no such list."""
    found = set()
    for parent in nodes[key]["depends_on"].get("nodes", ()):
        node = nodes.get(parent)
        if node is None:
            continue
        if node["config"].get("materialized") == "ephemeral":
            found |= _parents(nodes, parent)
        else:
            found.add(parent)
    return found
