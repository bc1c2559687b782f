#!/usr/bin/env python3
"""Bronze to Silver as people write it in Python: pydantic models, pandas, pyarrow, and boto3 where the lake is on S3. The
peer of `chpipe transform` in `make bench`; it does the same work: validate, merge pages, de-duplicate, sort, zstd Parquet.

    peer_transform.py LAKE_DIR [--endpoint laps,results] [--limit N]
    peer_transform.py s3://bronze,silver --s3 http://127.0.0.1:9000 …

Prints one JSON object: rows, seconds, rows_per_second."""
import argparse
import collections
import io
import json
import os
import time
from typing import List, Optional

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field


class Model(BaseModel):
    model_config = ConfigDict(extra="allow", populate_by_name=True)


class Timing(Model):
    driver_id: str = Field(alias="driverId")
    time: str
    position: Optional[int] = None


class Lap(Model):
    number: int
    timings: List[Timing] = Field(alias="Timings")


class Driver(Model):
    driver_id: str = Field(alias="driverId")


class Constructor(Model):
    constructor_id: str = Field(alias="constructorId")


class Time(Model):
    time: Optional[str] = None
    millis: Optional[int] = None


class Speed(Model):
    speed: Optional[float] = None


class FastestLap(Model):
    rank: Optional[int] = None
    lap: Optional[int] = None
    time: Optional[Time] = Field(None, alias="Time")
    speed: Optional[Speed] = Field(None, alias="AverageSpeed")


class Result(Model):
    number: Optional[int] = None
    position: int
    position_text: str = Field(alias="positionText")
    points: float
    driver: Driver = Field(alias="Driver")
    constructor: Constructor = Field(alias="Constructor")
    grid: Optional[int] = None
    laps: Optional[int] = None
    status: str
    time: Optional[Time] = Field(None, alias="Time")
    fastest_lap: Optional[FastestLap] = Field(None, alias="FastestLap")


class Race(Model):
    season: int
    round: int
    laps: List[Lap] = Field(default_factory=list, alias="Laps")
    results: List[Result] = Field(default_factory=list, alias="Results")


def millis(text):
    if not text:
        return None
    seconds = 0.0
    for part in text.split(":"):
        seconds = seconds * 60 + float(part)
    return round(seconds * 1000)


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
    for lap in race.laps:
        for timing in lap.timings:
            yield {"season": race.season, "round": race.round, "lap": lap.number, "driver_id": timing.driver_id,
                   "position": timing.position, "time_text": timing.time, "time_millis": millis(timing.time)}


def result_rows(race):
    for row in race.results:
        fastest = row.fastest_lap or FastestLap()
        total = row.time or Time()
        yield {"season": race.season, "round": race.round, "driver_id": row.driver.driver_id,
               "constructor_id": row.constructor.constructor_id, "car_number": row.number, "position": row.position,
               "position_text": row.position_text, "points": row.points, "grid": row.grid, "laps": row.laps,
               "status": row.status, "time_text": total.time, "time_millis": total.millis, "fastest_lap_rank": fastest.rank,
               "fastest_lap_number": fastest.lap,
               "fastest_lap_millis": millis(fastest.time.time) if fastest.time else None,
               "fastest_lap_avg_speed_kph": fastest.speed.speed if fastest.speed else None}


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
                rows.extend(rows_of(Race.model_validate(race)))
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
    started = time.perf_counter()
    rows = sum(transform(store, endpoint, a.limit) for endpoint in a.endpoint.split(","))
    seconds = time.perf_counter() - started
    print(json.dumps({"rows": rows, "seconds": round(seconds, 3), "rows_per_second": round(rows / seconds)}))


if __name__ == "__main__":
    main()
