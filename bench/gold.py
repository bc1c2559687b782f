#!/usr/bin/env python3
"""How long each query of docs/gold_queries.sql takes on 76 simulated seasons (about 5 million laps: lap times exist since
1996, so the races are simulated with 7.4 times their laps).

    bench/gold.py CHPIPE STATE_DIR

Runs the whole pipeline once into STATE_DIR (kept, so that a second run only measures), then asks every query over
`chpipe serve`, one connection, warm: best and median of 7. Fails where a best is 200 ms or more; BENCH_CHECK=0 prints only.
"""
import json, os, pathlib, re, socket, statistics, subprocess, sys, time, urllib.request

root = pathlib.Path(__file__).resolve().parent.parent
chpipe, state = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2]).absolute()
state.mkdir(parents=True, exist_ok=True)
environment = {
    **os.environ,
    "CHPIPE_LAKE_PATH": str(state / "lake"),
    "CHPIPE_WAREHOUSE_PATH": str(state / "warehouse"),
    "CHPIPE_STATE_PATH": str(state / "state"),
    "DBT_TARGET_PATH": str(state / "target"),
    "CHPIPE_REQUESTS_PER_SECOND": "100000",
    "CHPIPE_REQUESTS_PER_HOUR": "1000000000",
    "CHPIPE_SERVE_USER": "bench",
    "CHPIPE_SERVE_PASSWORD": "bench",
}


def run(*arguments):
    start = time.monotonic()
    subprocess.run([chpipe, "--quiet", *arguments], cwd=root, env=environment, check=True)
    print(f"  chpipe {' '.join(arguments):40} {time.monotonic() - start:7.1f} s", flush=True)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


if not (state / "done").exists():
    url = state / "simulate.url"
    url.unlink(missing_ok=True)
    simulate = subprocess.Popen(
        [chpipe, "--quiet", "simulate", "--port", "0", "--no-throttle", "--seasons", "1950..2025", "--lap-scale", "7.4", "--url-file", str(url)],
        cwd=root, env=environment)
    try:
        while not (url.exists() and url.read_text()):
            time.sleep(0.1)
        environment["CHPIPE_SOURCE_URL"] = url.read_text().strip()
        for command in (["extract", "--season", "1950..2025"], ["transform"], ["migrate"], ["load"], ["build"]):
            run(*command)
    finally:
        simulate.terminate()
        simulate.wait()
    (state / "done").touch()

port = free_port()
serve = subprocess.Popen([chpipe, "--quiet", "serve", "--port", str(port), "--s3-port", "0"],
                         stdout=subprocess.DEVNULL, cwd=root, env=environment)


def ask(sql):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/?database=f1", data=sql.encode(),
        headers={"X-ClickHouse-User": "bench", "X-ClickHouse-Key": "bench"})
    with urllib.request.urlopen(request) as answer:
        return answer.read()


worst = 0.0
try:
    # A disk that is busy with something else reads ten thousand small files slowly.
    for _ in range(1200):
        try:
            ask("select 1")
            break
        except OSError:
            time.sleep(0.1)
    print(f"  laps: {int(ask('select count() from fact_lap_times')):,}")
    text = (root / "docs/gold_queries.sql").read_text()
    for name, sql in re.findall(r"-- name: (\S+)\n(.*?);\n", text + "\n", re.S):
        times = []
        for _ in range(7):
            start = time.perf_counter()
            ask(sql)
            times.append((time.perf_counter() - start) * 1000)
        worst = max(worst, min(times))
        print(f"  {name:22} best {min(times):6.1f} ms   median {statistics.median(times):6.1f} ms")
    print(f"  slowest query: {worst:.1f} ms (target 200 ms)")
    if worst >= 200 and os.environ.get("BENCH_CHECK") != "0":
        sys.exit("a gold query takes 200 ms or more")
finally:
    serve.terminate()
    serve.wait()
