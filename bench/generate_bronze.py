#!/usr/bin/env python3
"""Writes a synthetic Bronze bucket of the size that the specification plans for: races with their results and laps in
pages of 100, in the envelope that chpipe writes. Nothing in it is real data.

    generate_bronze.py OUT [--races 1149] [--laps 5000000] [--batch 20240101T000000]

OUT is a lake folder; the bucket is OUT/bronze. The same arguments write the same bytes."""
import argparse
import json
import multiprocessing
import os
import random

PAGE = 100
DRIVERS = [f"driver_{n:02}" for n in range(24)]
TEAMS = [f"team_{n:02}" for n in range(12)]


def seasons(races):
    """(season, round) of every race, 22 rounds a season at most, the last season being 2025."""
    count = -(-races // 16)
    out, left = [], races
    for season in range(2025 - count + 1, 2026):
        rounds = min(16, left)
        out += [(season, number) for number in range(1, rounds + 1)]
        left -= rounds
    return out


def duration(millis):
    minutes, rest = divmod(millis, 60_000)
    return f"{minutes}:{rest // 1000:02}.{rest % 1000:03}"


def write(out, batch, endpoint, season, number, total, pages):
    folder = f"{out}/bronze/ergast/endpoint={endpoint}/season={season}/round={number:02}/batch_id={batch}"
    os.makedirs(folder, exist_ok=True)
    for page, races in enumerate(pages, 1):
        path = f"{season}/{number}/{endpoint}.json"
        metadata = {
            "ingestion_timestamp": "2024-01-01T00:00:00Z", "batch_id": batch, "endpoint": endpoint, "season": season,
            "round": number, "page": page, "total_pages": len(pages),
            "source_url": f"http://127.0.0.1/ergast/f1/{path}?limit={PAGE}&offset={(page - 1) * PAGE}",
            "api_response_total": total, "file_version": "1.0",
        }
        table = {"season": str(season), "round": str(number), "Races": races}
        data = {"MRData": {"xmlns": "", "series": "f1", "url": f"http://127.0.0.1/ergast/f1/{path}",
                           "limit": str(PAGE), "offset": str((page - 1) * PAGE), "total": str(total), "RaceTable": table}}
        name = "data.json" if len(pages) == 1 else f"page_{page:03}.json"
        with open(f"{folder}/{name}", "w", encoding="utf-8") as file:
            json.dump({"metadata": metadata, "data": data}, file, separators=(",", ":"), ensure_ascii=False)


def race(task):
    out, batch, season, number, laps = task
    rnd = random.Random(season * 100 + number)
    drivers = rnd.sample(DRIVERS, 20)
    head = {
        "season": str(season), "round": str(number), "url": "https://example.com/race", "raceName": f"Grand Prix {number}",
        "Circuit": {"circuitId": f"circuit_{number:02}", "url": "https://example.com/circuit", "circuitName": f"São Circuit {number}",
                    "Location": {"lat": "50.1", "long": "4.25", "locality": "Town", "country": "Country"}},
        "date": f"{season}-07-{number % 28 + 1:02}", "time": "14:00:00Z",
    }
    rows = []
    for position, driver in enumerate(drivers + drivers[:4], 1):
        rows.append({
            "number": str(position), "position": str(position), "positionText": str(position), "points": str(max(0, 26 - position)),
            "Driver": {"driverId": driver, "url": "https://example.com/driver", "givenName": "Given", "familyName": driver,
                       "dateOfBirth": "1990-01-01", "nationality": "Dutch"},
            "Constructor": {"constructorId": TEAMS[position % 12], "url": "https://example.com/team", "name": "Team", "nationality": "Dutch"},
            "grid": str(position), "laps": "57", "status": "Finished", "Time": {"millis": str(5_400_000 + position * 1000), "time": f"+{position}.000"},
            "FastestLap": {"rank": str(position), "lap": "40", "Time": {"time": duration(90_000 + position)},
                           "AverageSpeed": {"units": "kph", "speed": "206.018"}},
        })
    write(out, batch, "results", season, number, len(rows), [[{**head, "Results": rows}]])
    timings = [(lap, driver) for lap in range(1, -(-laps // 20) + 1) for driver in rnd.sample(drivers, 20)][:laps]
    pages = []
    for start in range(0, len(timings), PAGE):
        cut, last = [], None
        for index, (lap, driver) in enumerate(timings[start:start + PAGE], start):
            if lap != last:
                cut.append({"number": str(lap), "Timings": []})
                last = lap
            cut[-1]["Timings"].append({"driverId": driver, "time": duration(80_000 + rnd.randrange(40_000)), "position": str(index % 20 + 1)})
        pages.append([{**head, "Laps": cut}])
    write(out, batch, "laps", season, number, len(timings), pages)
    return len(timings)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--races", type=int, default=1149)
    parser.add_argument("--laps", type=int, default=5_000_000)
    parser.add_argument("--batch", default="20240101T000000")
    a = parser.parse_args()
    races = seasons(a.races)
    share, rest = divmod(a.laps, len(races))
    tasks = [(a.out, a.batch, season, number, share + (index < rest)) for index, (season, number) in enumerate(races)]
    with multiprocessing.Pool() as pool:
        laps = sum(pool.imap_unordered(race, tasks, 8))
    print(f"{len(races)} races, {24 * len(races)} results, {laps} laps in {a.out}")


if __name__ == "__main__":
    main()
