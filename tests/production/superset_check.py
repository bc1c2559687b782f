#!/usr/bin/env python3
"""Inside a new Superset: its own commands set it up and import the bundle, twice; then the database, datasets, charts and dashboards
are there once, and every chart's saved query returns rows. One process, since starting Superset takes longer than any of its commands.

usage: superset_check.py BUNDLE_FOLDER BUNDLE_ZIP WAREHOUSE_URI (the folder of bundle.py)
"""

from __future__ import annotations

import json
import sys
import traceback

sys.path.insert(0, sys.argv[1])
import bundle  # noqa: E402
from superset.app import create_app  # noqa: E402
from superset.cli.main import superset as superset_cli  # noqa: E402


def commands(bundle_zip: str, uri: str) -> list[list[str]]:
    """What docker/superset and docs/operations.md run."""
    load = ["import-dashboards", "--path", bundle_zip, "--username", "admin"]
    return [
        ["db", "upgrade"],
        "fab create-admin --username admin --password admin-of-the-test --firstname A --lastname B --email admin@localhost".split(),
        ["init"],
        load,
        ["set-database-uri", "--database_name", bundle.DATABASE, "--uri", uri],
        # Again: what was imported is replaced, not doubled.
        load,
    ]


def main() -> int:
    app = create_app()
    for command in commands(*sys.argv[2:4]):
        result = app.test_cli_runner().invoke(superset_cli, args=command)
        if result.exit_code:
            print(f"superset {' '.join(command[:2])}: {result.output[-2000:]}", file=sys.stderr)
            if result.exc_info:
                traceback.print_exception(*result.exc_info)
            return 1
    app.config["WTF_CSRF_ENABLED"] = False
    app.config["TALISMAN_ENABLED"] = False
    failed = []
    with app.app_context():
        from superset import db
        from superset.connectors.sqla.models import SqlaTable
        from superset.models.core import Database
        from superset.models.dashboard import Dashboard
        from superset.models.slice import Slice

        assert db.session.query(Database).filter_by(database_name=bundle.DATABASE).count() == 1
        datasets = {str(table.uuid): table for table in db.session.query(SqlaTable)}
        charts = {chart.slice_name: chart for chart in db.session.query(Slice)}
        for title, (_, rows) in bundle.DASHBOARDS.items():
            dashboard = db.session.query(Dashboard).filter_by(dashboard_title=title).one()
            shown = {chart.slice_name for chart in dashboard.slices}
            wanted = {chart for row in rows for chart, _ in row}
            if shown != wanted:
                failed.append(f"{title} shows {sorted(shown ^ wanted)} or lacks it")
            shown_ids = {
                item["meta"]["chartId"]
                for item in json.loads(dashboard.position_json).values()
                if isinstance(item, dict) and item.get("type") == "CHART"
            }
            if shown_ids != {charts[chart].id for chart in wanted}:
                failed.append(f"{title}: its layout points at charts that do not exist")
        ids = {}
        for name, chart in charts.items():
            dataset = datasets[bundle.identify("dataset", bundle.CHARTS[name]["dataset"])]
            ids[name] = dataset.id
            if chart.datasource_id != dataset.id:
                failed.append(f"{name} is not of {dataset.table_name}")
    # Outside of that context, so that each request has its own, as in the server.
    client = app.test_client()
    answer = client.post("/api/v1/security/login", json={"username": "admin", "password": "admin-of-the-test", "provider": "db"})
    headers = {"Authorization": f"Bearer {answer.get_json()['access_token']}"}
    for name, dataset_id in ids.items():
        payload = json.loads(bundle.chart_file(name)["query_context"])
        payload["datasource"]["id"] = dataset_id
        payload["form_data"]["datasource"] = f"{dataset_id}__table"
        payload["force"] = True
        answer = client.post("/api/v1/chart/data", json=payload, headers=headers)
        body = answer.get_json()
        if answer.status_code != 200:
            failed.append(f"{name}: {answer.status_code} {json.dumps(body)[:300]}")
            continue
        rows = body["result"][0]["data"]
        if not rows:
            failed.append(f"{name}: its query returns nothing")
        else:
            print(f"{name}: {len(rows)} rows, first {json.dumps(rows[0], default=str)[:110]}")
    for problem in failed:
        print(problem, file=sys.stderr)
    print(f"Superset: {len(ids)} charts on {len(bundle.DASHBOARDS)} dashboards, {len(failed)} problems")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
