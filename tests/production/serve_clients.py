#!/usr/bin/env python3
"""clickhouse-connect against `chpipe serve`: what the clients built on it (dbt-clickhouse, Superset) ask for.

usage: serve_clients.py PORT USER PASSWORD
"""
import datetime
import decimal
import sys

import clickhouse_connect
from clickhouse_connect.driver.exceptions import DatabaseError
from clickhouse_connect.driver.external import ExternalData

port, user, password = int(sys.argv[1]), sys.argv[2], sys.argv[3]


def client(**options):
    return clickhouse_connect.get_client(host="127.0.0.1", port=port, username=user, password=password, **options)


def fails(code, name, ask):
    try:
        ask()
    except DatabaseError as error:
        assert f"code {code}" in str(error).lower() or f"code: {code}" in str(error).lower(), error
        assert name in str(error), error
        return
    raise AssertionError(f"no error {code}")


c = client()
assert c.ping() and c.server_version.startswith("26."), c.server_version
c.command("DROP DATABASE IF EXISTS clients")
c.command("CREATE DATABASE clients ENGINE = Atomic")

# Values come back as they were sent, whatever compresses the bodies.
c.command("""CREATE TABLE clients.t (a Int64, s LowCardinality(Nullable(String)), d DateTime64(3, 'UTC'), e Decimal(10, 2),
    l Array(String), m Map(String, UInt8)) ENGINE = MergeTree ORDER BY a""")
day = datetime.datetime(2020, 1, 2, 3, 4, 5)
rows = [[i, None if i % 3 == 0 else f"it's \\ 'π' {i}", day, decimal.Decimal("1.25"), ["a", ""], {"k": 1}] for i in range(3000)]
for compress in ("lz4", "zstd", "gzip", False):
    other = client(database="clients", compress=compress)
    other.command("TRUNCATE TABLE t")
    assert other.insert("t", rows).written_rows == len(rows)
    read = other.query("SELECT * FROM t ORDER BY a").result_rows
    expected = [tuple(row) for row in rows]
    assert [(*row[:2], row[2].replace(tzinfo=None), *row[3:]) for row in read] == expected, compress
    other.close()

# Parameters, external data, rows in blocks, other formats.
row = c.query("SELECT {a:UInt8}, {s:String}, {d:DateTime}", parameters={"a": 5, "s": "it's\t\\x\n", "d": day}).result_rows[0]
assert row[:2] == (5, "it's\t\\x\n"), row
external = ExternalData(file_name="ext.csv", fmt="CSV", structure="a UInt8", data=b"1\n2\n")
assert c.query("SELECT sum(a) FROM ext", external_data=external).result_rows == [(3,)]
with c.query_row_block_stream("SELECT number FROM numbers(1000000)") as stream:
    assert sum(len(block) for block in stream) == 1_000_000
assert b'"rows": 1' in c.raw_query("SELECT 1 FORMAT JSON")
assert c.query_arrow("SELECT 1 AS a").to_pylist() == [{"a": 1}]

# A setting of a request is its own; a session keeps its settings and temporary tables; another one sees neither.
value = "SELECT value FROM system.settings WHERE name = 'max_block_size'"
default = c.command(value)
assert c.query(value, settings={"max_block_size": 1234}).result_rows == [("1234",)]
assert c.command(value) == default
first, second = client(session_id="clients-first"), client(session_id="clients-second")
first.command("SET max_block_size = 4321")
first.command("CREATE TEMPORARY TABLE kept (a UInt8)")
first.command("INSERT INTO kept VALUES (7)")
assert (str(first.command(value)), first.command("SELECT a FROM kept")) == ("4321", 7)
assert second.command(value) == default
fails(60, "UNKNOWN_TABLE", lambda: second.command("SELECT a FROM kept"))

# Errors, also one that comes after the first rows.
fails(47, "UNKNOWN_IDENTIFIER", lambda: c.query("SELECT nope"))
fails(62, "SYNTAX_ERROR", lambda: c.command("SELEC 1"))
late = "SELECT throwIf(number = 2000000) FROM numbers(3000000) SETTINGS max_threads = 1"
fails(395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO", lambda: c.query(late))
fails(516, "AUTHENTICATION_FAILED", lambda: clickhouse_connect.get_client(
    host="127.0.0.1", port=port, username=user, password="wrong"))
c.command("DROP DATABASE clients")
print("clickhouse-connect: rows, compression, parameters, external data, settings, sessions, errors")
