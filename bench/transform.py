#!/usr/bin/env python3
"""Bronze to Silver against the same step as people write it in Python, over the same storage in the same run.

    bench/transform.py CHPIPE STATE_DIR

A generated history (1,149 races, 27,576 results, 0.5 to 5 million laps in pages of 100) is transformed by chpipe whole and
by the peer in part, the same share of each endpoint; both do so from a directory, then from S3 (the directory served on
loopback). Fails where chpipe is below 25 times the peer on the directory, 4 times on S3, or 80 % of the rate at which that S3
server gives out the same objects to the AWS SDK for Rust when nothing is done with them; or above 300 MB. BENCH_CHECK=0
prints only.

Server and client share the machine's cores, so what parsing takes is missing in the server. The rate of chpipe's own client
alone, which costs a quarter of the SDK's processor time, is printed beside it: that one no work at all could reach."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import venv

root = pathlib.Path(__file__).resolve().parent.parent
SIZES = [500_000, 1_000_000, 2_000_000, 5_000_000]
ROUNDS = 3


def ensure_packages():
    """The peer's packages live in a virtual environment below .cache."""
    home = root / ".cache/bench-venv"
    python = home / "bin/python"
    if not (home / "ready").exists():
        venv.create(home, with_pip=True)
        packages = ["pydantic", "pandas", "pyarrow", "boto3"]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        (home / "ready").touch()
    return str(python)


def generate(state, laps):
    lake = state / f"laps_{laps}"
    if not (lake / "done").exists():
        shutil.rmtree(lake, ignore_errors=True)
        subprocess.run([sys.executable, root / "bench/generate_bronze.py", lake, "--laps", str(laps)], check=True,
                       stdout=subprocess.DEVNULL)
        (lake / "done").touch()
    return lake


def chpipe_transform(chpipe, state, extra):
    """Best wall time of some runs, its CPU time, and the peak memory of all."""
    environment = {**os.environ, **extra, "CHPIPE_STATE_PATH": str(state / "state")}
    best, peak = (float("inf"), 0), 0
    for _ in range(ROUNDS):
        started = time.perf_counter()
        process = subprocess.Popen([chpipe, "--quiet", "transform", "--all"], cwd=state, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        if status:
            sys.exit(f"chpipe transform failed: {status}")
        best, peak = min(best, (seconds, usage.ru_utime + usage.ru_stime)), max(peak, usage.ru_maxrss * 1024)
    return *best, peak


def peer(python, *arguments, environment=None):
    out = subprocess.run([python, root / "bench/peer_transform.py", *map(str, arguments)], check=True, text=True,
                         capture_output=True, env={**os.environ, **(environment or {})}).stdout
    return json.loads(out)


def line(name, rows, seconds, cpu, note=""):
    print(f"  {name:42} {rows:>10,} rows {seconds:8.2f} s {rows / seconds:>12,.0f} rows/s {cpu:8.2f} s of CPU  {note}",
          flush=True)


def main():
    chpipe, state = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2]).absolute()
    state.mkdir(parents=True, exist_ok=True)
    python = ensure_packages()
    failures = []

    def check(name, value, least):
        word = "ok" if value >= least else "TOO LOW"
        print(f"  {name}: {value:.2f} (at least {least}) {word}", flush=True)
        if value < least:
            failures.append(name)

    print("from a directory")
    results = 24 * 1149
    for laps in SIZES:
        lake = generate(state, laps)
        seconds, cpu, peak = chpipe_transform(chpipe, state, {"CHPIPE_LAKE_PATH": str(lake)})
        line(f"chpipe, {laps:,} laps", laps + results, seconds, cpu, f"peak {peak / 1e6:.0f} MB")
        rate = (laps + results) / seconds
        if peak > 300e6:
            failures.append("peak memory")
    slow = peer(python, lake, "--limit", 150)
    line("pydantic + pandas + pyarrow, a part of it", slow["rows"], slow["seconds"], slow["cpu_seconds"])
    print(f"  times the peer's rows a second of CPU: {(laps + results) / cpu / (slow['rows'] / slow['cpu_seconds']):.1f}")
    check("times the peer's rows a second", rate / slow["rows_per_second"], 25)

    print("from S3")
    laps = SIZES[-1]
    lake = generate(state, laps)
    cargo = os.environ.get("CARGO", "cargo")
    built = subprocess.run([*cargo.split(), "bench", "--no-run", "--quiet", "--bench", "s3", "--message-format", "json"],
                           cwd=root, check=True, capture_output=True, text=True).stdout
    tool = next(m["executable"] for m in map(json.loads, built.splitlines())
                if m.get("reason") == "compiler-artifact" and m["target"]["name"] == "s3" and m.get("executable"))
    server = subprocess.Popen([tool, "serve", lake], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        endpoint, key, secret = server.stdout.readline().split()
        def gets(client, name):
            command = [tool, client, endpoint, key, secret, "bronze", "ergast/", "32"]
            runs = [json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(ROUNDS)]
            best = min(runs, key=lambda run: run["seconds"])
            print(f"  {name:42} {best['objects']:>10,} objects {best['seconds']:5.2f} s "
                  f"{best['objects'] / best['seconds']:>12,.0f} GET/s", flush=True)
            return best

        own, bare = gets("get", "bare GETs of chpipe's own client"), gets("get-sdk", "bare GETs of the AWS SDK for Rust")
        objects = bare["objects"]
        environment = {"CHPIPE_S3_ENDPOINT": endpoint, "CHPIPE_S3_ACCESS_KEY_ID": key, "CHPIPE_S3_SECRET_ACCESS_KEY": secret}
        seconds, cpu, _ = chpipe_transform(chpipe, state, environment)
        line(f"chpipe, {laps:,} laps", laps + results, seconds, cpu, f"{objects / seconds:,.0f} GET/s")
        slow = peer(python, "s3://bronze,silver", "--s3", endpoint, "--limit", 100, environment=environment)
        line("boto3 + pydantic + pandas + pyarrow, a part", slow["rows"], slow["seconds"], slow["cpu_seconds"])
        check("times boto3's rows a second", (laps + results) / seconds / slow["rows_per_second"], 4)
        print(f"  share of the GET rate of its own client: {own['seconds'] / seconds:.2f}")
        check("share of the bare GET rate", bare["seconds"] / seconds, 0.8)
    finally:
        server.stdin.close()
        server.wait()
    if failures and os.environ.get("BENCH_CHECK") != "0":
        sys.exit("below target: " + ", ".join(failures))


if __name__ == "__main__":
    main()
