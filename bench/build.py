#!/usr/bin/env python3
"""How long `build` of 200 models with trivial SQL takes: chpipe on the embedded engine and over HTTP, dbt-clickhouse
over HTTP, all of them on the same ClickHouse (`chpipe serve`).

    bench/build.py CHPIPE STATE_DIR

100 views and 100 tables in chains of four, with a not_null test on every tenth. Each is run once to warm up and then three times; the best counts. The
target: chpipe over HTTP at least 15 times faster than dbt, end to end; it fails below that, BENCH_CHECK=0 prints only.
"""
import os, pathlib, shutil, socket, subprocess, sys, time, urllib.request

root = pathlib.Path(__file__).resolve().parent.parent
chpipe, state = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2]).absolute()
shutil.rmtree(state, ignore_errors=True)
project = state / "project"
(project / "models").mkdir(parents=True)
MODELS, THREADS = 200, 4


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


port = free_port()
(project / "dbt_project.yml").write_text("name: many\nversion: '1.0'\nprofile: many\nmodels: {many: {+order_by: id}}\n")
server = f"type: clickhouse, host: 127.0.0.1, port: {port}, user: default, password: bench, threads: {THREADS}"
(project / "profiles.yml").write_text(f"""many:
  target: embedded
  outputs:
    embedded: {{type: clickhouse, driver: embedded, path: {state}/embedded, schema: many, threads: {THREADS}}}
    http: {{{server}, driver: http, schema: many_chpipe}}
    dbt: {{{server}, driver: http, schema: many_dbt}}
""")
tests = []
for number in range(MODELS):
    kind = "table" if number % 2 else "view"
    parent = f"select id + 1 as id from {{{{ ref('m{number - 1:03}') }}}}" if number % 4 else f"select {number} as id"
    (project / f"models/m{number:03}.sql").write_text(f"{{{{ config(materialized='{kind}') }}}}\n{parent}\n")
    if number % 10 == 0:
        tests.append(f"  - name: m{number:03}\n    columns: [{{name: id, data_tests: [not_null]}}]\n")
(project / "models/schema.yml").write_text("version: 2\nmodels:\n" + "".join(tests))
environment = {**os.environ, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false", "CHPIPE_STATE_PATH": str(state / "state")}
environment.pop("CHPIPE_WAREHOUSE_PATH", None)


def best(name, *command):
    times = []
    for _ in range(4):
        start = time.monotonic()
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
        times.append(time.monotonic() - start)
        if done.returncode or f"PASS={MODELS + len(tests)} " not in done.stdout:
            sys.exit(f"{name} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    seconds = min(times[1:])
    print(f"  {name:34} {seconds:7.2f} s   (all runs: {' '.join(f'{t:.2f}' for t in times)})", flush=True)
    return seconds


folder = subprocess.run([root / "scripts/python-env.sh", "dbt"], capture_output=True, text=True, check=True).stdout.strip()
common = ["build", "--profiles-dir", str(project), "--target-path"]
embedded = best("chpipe, embedded", chpipe, *common, str(state / "target-embedded"), "--target", "embedded")
serve = subprocess.Popen(
    [chpipe, "--quiet", "serve", "--port", str(port), "--s3-port", str(free_port())],
    cwd=project,
    env={**environment, "CHPIPE_WAREHOUSE_PATH": str(state / "served"),
         "CHPIPE_SERVE_USER": "default", "CHPIPE_SERVE_PASSWORD": "bench"})
try:
    for _ in range(300):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/ping").read()
            break
        except OSError:
            time.sleep(0.1)
    http = best("chpipe, HTTP", chpipe, *common, str(state / "target-http"), "--target", "http")
    dbt = best("dbt-clickhouse, HTTP", folder + "/bin/dbt", *common, str(state / "target-dbt"), "--target", "dbt")
finally:
    serve.terminate()
    serve.wait()
print(f"  dbt over chpipe: {dbt / http:.1f} times over HTTP, {dbt / embedded:.1f} times embedded (target 15)")
if dbt / http < 15 and os.environ.get("BENCH_CHECK") != "0":
    sys.exit("less than 15 times as fast as dbt-clickhouse")
