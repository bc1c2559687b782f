#!/usr/bin/env python3
"""Writes the Superset bundle: the warehouse as a database, datasets, charts and two dashboards (season overview, driver profile).

usage: bundle.py --uri clickhousedb://bi:PASSWORD@clickhouse:8123/f1 --output f1_dashboards.zip

The address is an argument, so that no credential stands in a file of the repository. Ids are derived from names: importing again
replaces what was imported before.
"""

from __future__ import annotations

import argparse
import json
import uuid
import zipfile
from datetime import datetime, timezone

import yaml

NAMESPACE = uuid.UUID("6f1d0c1e-7a55-5b0e-9c1a-f1f1f1f1f1f1")
DATABASE = "F1 warehouse"
SCHEMA = "f1"


def identify(kind: str, name: str) -> str:
    return str(uuid.uuid5(NAMESPACE, f"{kind}/{name}"))


def slug(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name.lower())


# Name to query and columns; each column is a name with its type.
DATASETS = {
    "driver_seasons": (
        """select stats.season as season, drivers.name as driver, drivers.nationality as nationality, stats.total_points as points,
    stats.races as races, stats.wins as wins, stats.podiums as podiums, stats.poles as poles, stats.fastest_laps as fastest_laps,
    stats.official_position as place, stats.is_champion as is_champion
from agg_driver_season_stats as stats
inner join dim_drivers as drivers on drivers.driver_id = stats.driver_id and drivers.is_latest""",
        "season:INT driver:STRING nationality:STRING points:FLOAT races:INT wins:INT podiums:INT poles:INT fastest_laps:INT place:INT is_champion:INT",
    ),
    "team_seasons": (
        """select stats.season as season, constructors.name as team, stats.total_points as points, stats.races as races, stats.wins as wins,
    stats.podiums as podiums, stats.official_position as place
from agg_constructor_season_stats as stats
inner join dim_constructors as constructors on constructors.constructor_id = stats.constructor_id and constructors.is_current""",
        "season:INT team:STRING points:FLOAT races:INT wins:INT podiums:INT place:INT",
    ),
    "race_results": (
        """select results.season as season, results.round as round, results.race_date as race_date, circuits.name as circuit,
    circuits.country as country, drivers.name as driver, constructors.name as team, results.grid_position as grid,
    results.final_position as position, results.is_classified as is_classified, results.points as points, results.status as status,
    sum(results.points) over (partition by results.season, results.driver_id order by results.round) as points_so_far
from fact_race_results as results
inner join dim_drivers as drivers on drivers.driver_id = results.driver_id and drivers.is_latest
inner join dim_constructors as constructors on constructors.constructor_id = results.constructor_id and constructors.is_current
inner join dim_circuits as circuits on circuits.circuit_id = results.circuit_id and circuits.is_current""",
        "season:INT round:INT race_date:DATE circuit:STRING country:STRING driver:STRING team:STRING grid:INT position:INT "
        "is_classified:INT points:FLOAT status:STRING points_so_far:FLOAT",
    ),
    "qualifying": (
        """select qualifying.season as season, qualifying.round as round, drivers.name as driver, qualifying.final_position as position
from fact_qualifying_results as qualifying
inner join dim_drivers as drivers on drivers.driver_id = qualifying.driver_id and drivers.is_latest""",
        "season:INT round:INT driver:STRING position:INT",
    ),
    "lap_times": (
        """select laps.season as season, laps.round as round, drivers.name as driver, laps.lap_number as lap, laps.lap_time_ms / 1000 as seconds
from fact_lap_times as laps
inner join dim_drivers as drivers on drivers.driver_id = laps.driver_id and drivers.is_latest""",
        "season:INT round:INT driver:STRING lap:INT seconds:FLOAT",
    ),
}


def metric(expression: str, label: str) -> dict:
    return {"expressionType": "SQL", "sqlExpression": expression, "label": label, "optionName": f"metric_{slug(label)}", "hasCustomLabel": True}


POINTS = metric("sum(points)", "Points")
WINS = metric("sum(wins)", "Wins")
PODIUMS = metric("sum(podiums)", "Podiums")
RACES = metric("sum(races)", "Races")
POLES = metric("sum(poles)", "Poles")


def bars(dataset: str, x: str, metrics: list, **more) -> dict:
    return {"viz_type": "echarts_timeseries_bar", "dataset": dataset, "x_axis": x, "metrics": metrics, **more}


def lines(dataset: str, x: str, metrics: list, **more) -> dict:
    return {"viz_type": "echarts_timeseries_line", "dataset": dataset, "x_axis": x, "metrics": metrics, **more}


def number(dataset: str, value: dict) -> dict:
    return {"viz_type": "big_number_total", "dataset": dataset, "metric": value}


def table(dataset: str, groupby: list[str], metrics: list, **more) -> dict:
    return {"viz_type": "table", "query_mode": "aggregate", "dataset": dataset, "groupby": groupby, "metrics": metrics, **more}


CHARTS = {
    # Season overview
    "Drivers' table": table("driver_seasons", ["driver", "nationality"], [POINTS, WINS, PODIUMS, POLES], order=POINTS),
    "Teams' points": bars("team_seasons", "team", [POINTS], order=POINTS),
    "Race winners": table("race_results", ["round", "race_date", "circuit", "driver", "team"], [metric("min(grid)", "Grid")], where="position = 1 and is_classified"),
    "Championship by round": lines("race_results", "round", [metric("max(points_so_far)", "Points so far")], groupby=["driver"]),
    "How races ended": {"viz_type": "pie", "dataset": "race_results", "groupby": ["status"], "metric": metric("count()", "Cars"), "row_limit": 12},
    "Races held": number("race_results", metric("uniqExact(season, round)", "Races")),
    "Different winners": number("race_results", metric("uniqExactIf(driver, position = 1 and is_classified)", "Winners")),
    # Driver profile
    "Points by season": bars("driver_seasons", "season", [POINTS]),
    "Wins, podiums and poles": bars("driver_seasons", "season", [WINS, PODIUMS, POLES]),
    "Career wins": number("driver_seasons", WINS),
    "Career podiums": number("driver_seasons", PODIUMS),
    "Career races": number("driver_seasons", RACES),
    "Titles": number("driver_seasons", metric("sum(is_champion)", "Titles")),
    "Grid and finish": lines("race_results", "race_date", [metric("avg(grid)", "Grid"), metric("avg(position)", "Finish")]),
    "Qualifying places": bars("qualifying", "position", [metric("count()", "Times")]),
    "Median lap by round": lines("lap_times", "round", [metric("median(seconds)", "Seconds")], groupby=["season"]),
    "Best circuits": table("race_results", ["circuit", "country"], [POINTS, metric("countIf(position = 1 and is_classified)", "Wins"), metric("avg(position)", "Mean place")], order=POINTS),
}

# Title to its filter (dataset, column, one value only) and rows of charts with their widths of 12.
DASHBOARDS = {
    "Season overview": (
        ("driver_seasons", "season", "Season"),
        [
            [("Races held", 3), ("Different winners", 3), ("How races ended", 6)],
            [("Championship by round", 12)],
            [("Drivers' table", 6), ("Teams' points", 6)],
            [("Race winners", 12)],
        ],
    ),
    "Driver profile": (
        ("driver_seasons", "driver", "Driver"),
        [
            [("Career races", 3), ("Career wins", 3), ("Career podiums", 3), ("Titles", 3)],
            [("Points by season", 6), ("Wins, podiums and poles", 6)],
            [("Grid and finish", 12)],
            [("Qualifying places", 4), ("Median lap by round", 4), ("Best circuits", 4)],
        ],
    ),
}


def dataset_file(name: str) -> dict:
    sql, columns = DATASETS[name]
    return {
        "table_name": name,
        "schema": SCHEMA,
        "sql": sql,
        "uuid": identify("dataset", name),
        "database_uuid": identify("database", DATABASE),
        "version": "1.0.0",
        "main_dttm_col": None,
        "filter_select_enabled": True,
        "columns": [
            {"column_name": column, "type": kind, "is_dttm": kind == "DATE", "groupby": True, "filterable": True, "is_active": True}
            for column, kind in (pair.split(":") for pair in columns.split())
        ],
        "metrics": [{"metric_name": "count", "expression": "count()", "verbose_name": "Rows"}],
    }


def chart_params(name: str) -> dict:
    """The form data that Superset's editor would save."""
    chart = CHARTS[name]
    params = {
        key: chart[key] for key in ("viz_type", "x_axis", "metrics", "metric", "groupby", "query_mode") if key in chart
    }
    params["row_limit"] = chart.get("row_limit", 1000)
    params["adhoc_filters"] = [
        {"expressionType": "SQL", "sqlExpression": chart["where"], "clause": "WHERE", "filterOptionName": "filter_1"}
    ] if "where" in chart else []
    if "order" in chart:
        params["order_desc"] = True
        params["timeseries_limit_metric" if chart["viz_type"] == "table" else "x_axis_sort"] = (
            chart["order"] if chart["viz_type"] == "table" else chart["order"]["label"]
        )
    if chart["viz_type"].startswith("echarts_timeseries"):
        params |= {"x_axis_sort_asc": "order" not in chart, "show_legend": True, "rich_tooltip": True}
    return params


def query(name: str) -> dict:
    """The query that the chart sends."""
    chart = CHARTS[name]
    columns = ([chart["x_axis"]] if "x_axis" in chart else []) + chart.get("groupby", [])
    metrics = chart.get("metrics") or [chart["metric"]]
    return {
        "columns": columns,
        "metrics": metrics,
        "filters": [],
        "extras": {"where": f"({chart['where']})" if "where" in chart else "", "having": ""},
        "orderby": [[chart["order"], False]] if "order" in chart else [],
        "row_limit": chart.get("row_limit", 1000),
        "is_timeseries": False,
    }


def chart_file(name: str) -> dict:
    params = chart_params(name)
    context = {
        "datasource": {"id": 0, "type": "table"},
        "force": False,
        "queries": [query(name)],
        "form_data": params,
        "result_format": "json",
        "result_type": "full",
    }
    return {
        "slice_name": name,
        "viz_type": params["viz_type"],
        "params": params,
        "query_context": json.dumps(context),
        "uuid": identify("chart", name),
        "dataset_uuid": identify("dataset", CHARTS[name]["dataset"]),
        "version": "1.0.0",
    }


def position(title: str, rows: list) -> dict:
    layout: dict = {
        "DASHBOARD_VERSION_KEY": "v2",
        "ROOT_ID": {"type": "ROOT", "id": "ROOT_ID", "children": ["GRID_ID"]},
        "GRID_ID": {"type": "GRID", "id": "GRID_ID", "children": [], "parents": ["ROOT_ID"]},
        "HEADER_ID": {"type": "HEADER", "id": "HEADER_ID", "meta": {"text": title}},
    }
    for at, row in enumerate(rows):
        row_id = f"ROW-{at}"
        layout["GRID_ID"]["children"].append(row_id)
        children = []
        for chart, width in row:
            chart_id = f"CHART-{slug(chart)}"
            children.append(chart_id)
            layout[chart_id] = {
                "type": "CHART",
                "id": chart_id,
                "children": [],
                "parents": ["ROOT_ID", "GRID_ID", row_id],
                "meta": {
                    "chartId": 0,
                    "uuid": identify("chart", chart),
                    "sliceName": chart,
                    "width": width,
                    "height": 20 if CHARTS[chart]["viz_type"] == "big_number_total" else 50,
                },
            }
        layout[row_id] = {
            "type": "ROW",
            "id": row_id,
            "children": children,
            "parents": ["ROOT_ID", "GRID_ID"],
            "meta": {"background": "BACKGROUND_TRANSPARENT"},
        }
    return layout


def dashboard_file(title: str) -> dict:
    (dataset, column, label), rows = DASHBOARDS[title]
    return {
        "dashboard_title": title,
        "slug": slug(title),
        "uuid": identify("dashboard", title),
        "version": "1.0.0",
        "published": True,
        "position": position(title, rows),
        "metadata": {
            "cross_filters_enabled": True,
            "native_filter_configuration": [
                {
                    "id": f"NATIVE_FILTER-{slug(label)}",
                    "name": label,
                    "type": "NATIVE_FILTER",
                    "filterType": "filter_select",
                    "targets": [{"datasetUuid": identify("dataset", dataset), "column": {"name": column}}],
                    "controlValues": {"multiSelect": False, "defaultToFirstItem": True, "enableEmptyFilter": False, "searchAllOptions": True, "sortAscending": column != "season"},
                    "defaultDataMask": {"filterState": {}, "extraFormData": {}},
                    "cascadeParentIds": [],
                    "scope": {"rootPath": ["ROOT_ID"], "excluded": []},
                }
            ],
        },
    }


def files(uri: str) -> dict[str, dict]:
    found = {
        "metadata.yaml": {"version": "1.0.0", "type": "Dashboard", "timestamp": datetime.now(timezone.utc).isoformat()},
        f"databases/{slug(DATABASE)}.yaml": {
            "database_name": DATABASE,
            "sqlalchemy_uri": uri,
            "uuid": identify("database", DATABASE),
            "version": "1.0.0",
            "expose_in_sqllab": True,
            "allow_run_async": False,
            "allow_ctas": False,
            "allow_cvas": False,
            "allow_dml": False,
            "extra": {"allows_virtual_table_explore": True},
        },
    }
    found |= {f"datasets/{slug(DATABASE)}/{name}.yaml": dataset_file(name) for name in DATASETS}
    found |= {f"charts/{slug(name)}.yaml": chart_file(name) for name in CHARTS}
    found |= {f"dashboards/{slug(title)}.yaml": dashboard_file(title) for title in DASHBOARDS}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--uri", required=True, help="SQLAlchemy address of the warehouse")
    parser.add_argument("--output", required=True, help="the zip file to write")
    options = parser.parse_args()
    with zipfile.ZipFile(options.output, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in files(options.uri).items():
            bundle.writestr(f"f1/{name}", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    print(f"{options.output}: {len(DATASETS)} datasets, {len(CHARTS)} charts, {len(DASHBOARDS)} dashboards")


if __name__ == "__main__":
    main()
