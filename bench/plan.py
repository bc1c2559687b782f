#!/usr/bin/env python3
"""How long `migrate` plans where there is nothing to do: 500 tables (of 250 datasets: files and rows) on the embedded engine, and
one dataset of 2,000 Parquet files in a bucket, with and without the memory of their footers.

    bench/plan.py CHPIPE STATE_DIR

Runs `migrate --check` as a process of its own, 5 times: best and median. The target: below 1 s for the 500 tables while nothing has
changed since the last plan, where the engine is not opened; the plan that opens it is printed beside it, with what opening and closing
alone take. It fails above, as it does where the files are asked again; BENCH_CHECK=0 prints only. The bucket is served by `chpipe serve` on this machine, so a
request takes no time on a network.
"""
import json, os, pathlib, re, shutil, socket, statistics, subprocess, sys, time, urllib.request

chpipe, state = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2]).absolute()
shutil.rmtree(state, ignore_errors=True)
TABLES, FILES, LAPS, TARGET = 500, 2_000, 5, 1.0
KEYS = {"CHPIPE_S3_ACCESS_KEY_ID": "bench", "CHPIPE_S3_SECRET_ACCESS_KEY": "bench-secret"}
COLUMNS = ", ".join([f"number + {i} AS n{i}" for i in range(8)] + [f"toString(number) AS t{i}" for i in range(8)]
                    + ["now64(3, 'UTC') AS at", "[number] AS list", "number / 3 AS ratio", "toDate32('2024-01-01') + number AS day"])


class Project:
    def __init__(self, name, **environment):
        self.path = state / name
        (self.path / "ddl/tables").mkdir(parents=True)
        (self.path / "chpipe.toml").write_text('[source]\nendpoints = "none"\n[lake]\npath = "lake"\n')
        self.environment = {**os.environ, "CHPIPE_WAREHOUSE_PATH": "warehouse", "CHPIPE_STATE_PATH": "state", **environment}

    def run(self, *arguments, **options):
        return subprocess.run([chpipe, "--quiet", *arguments], cwd=self.path, env=self.environment, check=True, **options)

    def timed(self, *arguments):
        start = time.monotonic()
        log = self.run("--log-level", "debug", "--log-format", "json", *arguments, capture_output=True, text=True)
        seconds = time.monotonic() - start
        read = re.findall(r'"?footers"?[=:] ?(\d+).*?"?requests"?[=:] ?(\d+).*?"?bytes"?[=:] ?(\d+)', log.stderr + log.stdout)
        return seconds, [tuple(map(int, found)) for found in read]

    def parquet(self, columns):
        query = f"SELECT {columns} FROM numbers(1000)"
        return self.run("query", "--format", "Parquet", query, stdout=subprocess.PIPE).stdout


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def line(what, laps):
    print(f"{what:58} best {min(laps):6.3f} s, median {statistics.median(laps):6.3f} s", flush=True)


missed = []

# ---- many datasets, each with a table over its file and one for its rows ----
for datasets in (TABLES // 2, TABLES):
    many = Project(f"of_{datasets}")
    data = many.parquet(COLUMNS)
    for number in range(datasets):
        write(many.path / f"lake/silver/t{number:03}/part-0.parquet", data)
        (many.path / f"ddl/tables/t{number:03}.yml").write_text(f"source: t{number:03}/\nnatural_key: [n0]\n")
    start = time.monotonic()
    many.run("migrate", stdout=subprocess.DEVNULL)
    print(f"{f'{datasets} datasets: migrate makes {2 * datasets} tables':58}      {time.monotonic() - start:6.3f} s", flush=True)
    opened = [many.timed("query", "select 1")[0] for _ in range(LAPS)]
    line(f"{2 * datasets} tables: the engine is opened and closed", opened)
    looked, laps = [], []
    for _ in range(LAPS):
        (many.path / "state/nothing_to_do.json").unlink(missing_ok=True)
        looked.append(many.timed("migrate", "--check")[0])
        laps.append(many.timed("migrate", "--check")[0])
    line(f"{2 * datasets} tables: plan that looks at all of them", looked)
    line(f"{2 * datasets} tables: plan after it, nothing changed", laps)
    if 2 * datasets == TABLES and min(laps) >= TARGET:
        missed.append(f"{TABLES} tables are planned in {min(laps):.2f} s, not below {TARGET} s")

# ---- one dataset of 2,000 files ----
server = Project("server", **KEYS, CHPIPE_SERVE_USER="bench", CHPIPE_SERVE_PASSWORD="bench")
variants = [many.parquet(columns) for columns in (COLUMNS, f"{COLUMNS}, 1 AS extra", COLUMNS.replace("number + 3 AS n3, ", ""))]
for number in range(FILES):
    write(server.path / f"lake/events/year={2000 + number % 20}/part-{number:05}.parquet", variants[number % len(variants)])


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


port, s3_port = free_port(), free_port()
serve = subprocess.Popen([chpipe, "--quiet", "serve", "--port", str(port), "--s3-port", str(s3_port)], cwd=server.path,
                         env=server.environment, stdout=subprocess.DEVNULL)
try:
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=1)
            break
        except OSError:
            time.sleep(0.1)
    files = Project("files", AWS_ACCESS_KEY_ID="bench", AWS_SECRET_ACCESS_KEY="bench-secret", AWS_REGION="us-east-1")
    (files.path / "ddl/tables/events.yml").write_text(
        f"source: s3://events/**.parquet\nendpoint: http://127.0.0.1:{s3_port}\nnatural_key: [n0]\n")
    files.run("migrate", stdout=subprocess.DEVNULL)
    memory = files.path / "state/footers.jsonl"
    first, again = [], []
    for _ in range(LAPS):
        memory.unlink()
        seconds, read = files.timed("migrate", "--check")
        first.append(seconds)
        again.append(files.timed("migrate", "--check"))
    size = sum(path.stat().st_size for path in (server.path / "lake/events").rglob("*.parquet"))
    footers, requests, read_bytes = read[0]
    line(f"{FILES} files of {size / 1e6:.0f} MB: first plan", first)
    print(f"    {footers} footers by {requests} requests of {read_bytes / 1e6:.1f} MB")
    line(f"{FILES} files: plan again", [seconds for seconds, _ in again])
    asked = sum(requests for _, read in again for _, requests, _ in read)
    print(f"    {asked} requests for footers; the memory of them is {memory.stat().st_size / 1e3:.0f} kB")
    if footers != FILES or asked:
        missed.append(f"{footers} footers were read at first and {asked} requests made again")
finally:
    serve.terminate()
    serve.wait()
for text in missed:
    print(f"MISSED: {text}")
if missed and os.environ.get("BENCH_CHECK") != "0":
    sys.exit(1)
