#!/usr/bin/env python3
"""Bronze to Silver as people write it in Python: a pydantic model a row, pandas, pyarrow, and boto3 where the lake is on S3. The
peer of `chpipe transform` in `make bench`; it does the same work: validate, merge pages, de-duplicate, sort, zstd Parquet.

    peer_transform.py LAKE_DIR [--endpoint laps,results] [--limit N]
    peer_transform.py s3://bronze,silver --s3 http://127.0.0.1:9000 …

Prints one JSON object: rows, seconds, rows_per_second, cpu_seconds."""
import argparse
import collections
import io
import json
import os
import resource
import time
from typing import Optional

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, field_validator


def millis(text):
    if not text:
        return None
    seconds = 0.0
    for part in text.split(":"):
        seconds = seconds * 60 + float(part)
    return round(seconds * 1000)


class Row(BaseModel):
    """A row of Silver; the API's ways of writing nothing become None before the types are checked."""
    model_config = ConfigDict(extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def nothing(cls, value):
        return None if value in ("", "None", "N") else value


class LapRow(Row):
    season: int
    round: int
    lap: int
    driver_id: str
    position: Optional[int] = None
    time_text: str
    time_millis: int


class ResultRow(Row):
    season: int
    round: int
    driver_id: str
    constructor_id: str
    car_number: Optional[int] = None
    position: int
    position_text: str
    points: float
    grid: Optional[int] = None
    laps: Optional[int] = None
    status: str
    time_text: Optional[str] = None
    time_millis: Optional[int] = None
    fastest_lap_rank: Optional[int] = None
    fastest_lap_number: Optional[int] = None
    fastest_lap_millis: Optional[int] = None
    fastest_lap_avg_speed_kph: Optional[float] = None


LAPS = pa.schema([
    ("season", pa.int16()), ("round", pa.int16()), ("lap", pa.int16()), ("driver_id", pa.string()),
    ("position", pa.int16()), ("time_text", pa.string()), ("time_millis", pa.int64()),
])
RESULTS = pa.schema([
    ("season", pa.int16()), ("round", pa.int16()), ("driver_id", pa.string()), ("constructor_id", pa.string()),
    ("car_number", pa.int16()), ("position", pa.int16()), ("position_text", pa.string()), ("points", pa.float64()),
    ("grid", pa.int16()), ("laps", pa.int16()), ("status", pa.string()), ("time_text", pa.string()),
    ("time_millis", pa.int64()), ("fastest_lap_rank", pa.int16()), ("fastest_lap_number", pa.int16()),
    ("fastest_lap_millis", pa.int64()), ("fastest_lap_avg_speed_kph", pa.float64()),
])


def lap_rows(race):
    for lap in race["Laps"]:
        for timing in lap["Timings"]:
            yield LapRow(season=race["season"], round=race["round"], lap=lap["number"], driver_id=timing["driverId"],
                         position=timing.get("position"), time_text=timing["time"], time_millis=millis(timing["time"]))


def result_rows(race):
    for row in race["Results"]:
        fastest, total = row.get("FastestLap", {}), row.get("Time", {})
        yield ResultRow(
            season=race["season"], round=race["round"], driver_id=row["Driver"]["driverId"],
            constructor_id=row["Constructor"]["constructorId"], car_number=row.get("number"), position=row["position"],
            position_text=row["positionText"], points=row["points"], grid=row.get("grid"), laps=row.get("laps"),
            status=row["status"], time_text=total.get("time"), time_millis=total.get("millis"),
            fastest_lap_rank=fastest.get("rank"), fastest_lap_number=fastest.get("lap"),
            fastest_lap_millis=millis(fastest.get("Time", {}).get("time")),
            fastest_lap_avg_speed_kph=fastest.get("AverageSpeed", {}).get("speed"))


ENDPOINTS = {
    "laps": (LAPS, lap_rows, ["season", "round", "lap", "driver_id"]),
    "results": (RESULTS, result_rows, ["season", "round", "driver_id", "constructor_id", "car_number"]),
}


class Directory:
    def __init__(self, root):
        self.root = root

    def list(self, prefix):
        for folder, _, names in sorted(os.walk(f"{self.root}/bronze/{prefix}")):
            for name in sorted(names):
                yield os.path.relpath(f"{folder}/{name}", f"{self.root}/bronze")

    def get(self, key):
        with open(f"{self.root}/bronze/{key}", "rb") as file:
            return file.read()

    def put(self, key, body):
        path = f"{self.root}/silver_peer/{key}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(body)


class S3:
    def __init__(self, buckets, endpoint):
        import boto3
        self.bronze, self.silver = buckets.removeprefix("s3://").split(",")
        self.client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1",
                                   aws_access_key_id=os.environ.get("CHPIPE_S3_ACCESS_KEY_ID", "chpipe"),
                                   aws_secret_access_key=os.environ.get("CHPIPE_S3_SECRET_ACCESS_KEY", "chpipe"))

    def list(self, prefix):
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bronze, Prefix=prefix):
            for item in page.get("Contents", []):
                yield item["Key"]

    def get(self, key):
        return self.client.get_object(Bucket=self.bronze, Key=key)["Body"].read()

    def put(self, key, body):
        self.client.put_object(Bucket=self.silver, Key="peer/" + key, Body=body)


def transform(store, endpoint, limit):
    schema, rows_of, key = ENDPOINTS[endpoint]
    batches = collections.defaultdict(list)
    for name in store.list(f"ergast/endpoint={endpoint}/"):
        batches[name.rsplit("/", 1)[0]].append(name)
    count = 0
    for folder, pages in list(sorted(batches.items()))[:limit]:
        rows = []
        for page in sorted(pages):
            body = json.loads(store.get(page))
            for race in body["data"]["MRData"]["RaceTable"]["Races"]:
                rows.extend(row.model_dump() for row in rows_of(race))
        frame = pd.DataFrame(rows, columns=schema.names).drop_duplicates(key).sort_values(key)
        out = io.BytesIO()
        pq.write_table(pa.Table.from_pandas(frame, schema=schema, preserve_index=False), out, compression="zstd")
        store.put(folder + "/data.parquet", out.getvalue())
        count += len(frame)
    return count


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("lake")
    parser.add_argument("--s3")
    parser.add_argument("--endpoint", default="laps,results")
    parser.add_argument("--limit", type=int, help="batches an endpoint")
    a = parser.parse_args()
    store = S3(a.lake, a.s3) if a.s3 else Directory(a.lake)
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    rows = sum(transform(store, endpoint, a.limit) for endpoint in a.endpoint.split(","))
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"rows": rows, "seconds": round(seconds, 3), "rows_per_second": round(rows / seconds), "cpu_seconds": round(cpu, 3)}))


if __name__ == "__main__":
    main()
