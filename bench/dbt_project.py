#!/usr/bin/env python3
"""How fast a dbt project of 1,000 and of 10,000 models is read and compiled, beside dbt-core.

    bench/dbt_project.py CHPIPE STATE_DIR

Models in ten layers, each calling a macro and reading two of the layer before; a properties entry, two column descriptions and
one data test for every model. dbt-core 1.11 and 2.0 come from PyPI (scripts/python-env.sh) and run the same project; a peer that
cannot is said so. Times are the best of several runs, memory is the largest resident set.
"""
import os, pathlib, shutil, subprocess, sys, time

root = pathlib.Path(__file__).resolve().parent.parent
chpipe, state = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2]).absolute()
LAYERS = 10


def generate(folder, models):
    """The project, anew."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "macros").mkdir(parents=True)
    (folder / "dbt_project.yml").write_text(
        "name: big\nversion: '1.0'\nprofile: big\nflags: {send_anonymous_usage_stats: false}\nmodels:\n  big:\n"
        "    +materialized: view\n    layer_0: {+materialized: table}\n")
    (folder / "profiles.yml").write_text(
        "big: {target: dev, outputs: {dev: {type: clickhouse, schema: big, host: localhost, port: 1, user: default}}}\n")
    # dbt-core 2's preview reads no ClickHouse profile; parsing and compiling ask no warehouse.
    (folder / "snowflake").mkdir()
    (folder / "snowflake" / "profiles.yml").write_text(
        "big: {target: dev, outputs: {dev: {type: snowflake, account: a, user: u, password: p, database: d, warehouse: w, schema: big}}}\n")
    (folder / "macros" / "money.sql").write_text(
        "{% macro money(column, places=2) %}round({{ column }} / 100, {{ places }}){% endmacro %}\n"
        "{% macro columns(count) %}{% for i in range(count) %}{{ money('c' ~ i) }} as c{{ i }}"
        "{% if not loop.last %}, {% endif %}{% endfor %}{% endmacro %}\n")
    each = models // LAYERS
    for layer in range(LAYERS):
        place = folder / "models" / f"layer_{layer}"
        place.mkdir(parents=True)
        entries = ["models:"]
        for i in range(each):
            config = f"{{{{ config(tags=['t{i % 7}']) }}}}\n"
            if layer == 0:
                sql = config + "select number as id, {{ columns(4) }} from numbers(10)\n"
            else:
                below = f"model_{layer - 1}_"
                sql = (f"{config}select a.id, {{{{ columns(4) }}}}\nfrom {{{{ ref('{below}{i}') }}}} a\n"
                       f"join {{{{ ref('{below}{(i * 7 + 1) % each}') }}}} b on a.id = b.id\n")
            (place / f"model_{layer}_{i}.sql").write_text(sql)
            test = ["unique", "not_null", f"accepted_values: {{arguments: {{values: [{i}, 2, 3]}}}}"][i % 3]
            entries.append(f"  - name: model_{layer}_{i}\n    description: Model {i} of layer {layer}\n    columns:\n"
                           f"      - name: id\n        description: The key\n        data_tests:\n          - {test}\n"
                           f"      - name: c0\n        description: An amount\n")
        (place / "models.yml").write_text("\n".join(entries))


def measure(command, folder, repeat, before=lambda: None):
    """Best seconds and largest memory in MB; None and the last line where it fails."""
    best, memory = None, 0
    for _ in range(repeat):
        before()
        start = time.monotonic()
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
        said = process.stdout.read().decode(errors="replace")
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        took = time.monotonic() - start
        if process.returncode:
            return None, said.strip().splitlines()[-1:]
        best = took if best is None else min(best, took)
        memory = max(memory, used.ru_maxrss / 1024)
    return best, memory


def report(who, what, measured, aim=None):
    seconds, memory = measured
    if seconds is None:
        print(f"  {who:16} {what:38} fails: {' '.join(memory)[:100]}", flush=True)
        return True
    missed = aim is not None and seconds > aim
    goal = "" if aim is None else f"  aim {aim:g} s{'  MISSED' if missed else ''}"
    print(f"  {who:16} {what:38} {seconds * 1000:9.0f} ms {memory:7.0f} MB{goal}", flush=True)
    return missed


environment = {**os.environ, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false", "DO_NOT_TRACK": "1", "NO_COLOR": "1"}
for name in list(environment):
    if name.startswith(("CHPIPE_", "DBT_")) and name not in ("CHPIPE_LIBCHDB", "DBT_SEND_ANONYMOUS_USAGE_STATS"):
        del environment[name]
missed = report("chpipe", "--version", measure([chpipe, "--version"], root, 20), 0.010)
for models, aims, repeat in ((1000, (0.25, 0.5, 0.3), 7), (10_000, (3, 3, 3), 3)):
    folder = state / str(models)
    generate(folder, models)
    print(f"{models} models, {models} tests")
    for what, command, aim in (
        ("parse", ["parse"], aims[0]),
        ("compile", ["compile"], aims[1]),
        ("ls -s one model", ["ls", "-s", "model_5_7"], aims[2]),
        ("ls -s one model and all below", ["ls", "-s", "model_0_7+"], None),
    ):
        measured = measure([chpipe, *command], folder, repeat)
        missed |= report("chpipe", what, measured, aim)
        if measured[0] is not None and measured[1] > 500:
            missed = True
            print("    more than 500 MB: MISSED")
    if models > 1000:
        continue
    for version, name, profiles in (("1.11", "dbt", "."), ("2.0", "dbt2", "snowflake")):
        wanted = root / "tests" / "production" / "requirements" / f"{name}.txt"
        if not wanted.exists():
            continue
        python = subprocess.run([root / "scripts" / "python-env.sh", name], capture_output=True, text=True)
        if python.returncode:
            print(f"  dbt-core {version} cannot be installed: {python.stderr.strip().splitlines()[-1:]}")
            continue
        dbt = pathlib.Path(python.stdout.strip()) / "bin" / "dbt"
        cold = lambda: shutil.rmtree(folder / "target", ignore_errors=True)
        arguments = ["--profiles-dir", profiles]
        report(f"dbt-core {version}", "parse, cold", measure([dbt, "parse", *arguments], folder, 1, cold))
        report(f"dbt-core {version}", "parse, warm", measure([dbt, "parse", *arguments], folder, 2))
        report(f"dbt-core {version}", "ls -s one model, warm", measure([dbt, "ls", "-s", "model_5_7", *arguments], folder, 2))
        report(f"dbt-core {version}", "compile, warm", measure([dbt, "compile", *arguments], folder, 1))
if missed:
    sys.exit("a target was missed")
