"""Parquet that chpipe did not write, by pyarrow and by duckdb: `ddl infer`, `migrate`, `load`, and every value read back through
`chpipe query` equals what was written.

    foreign_files.py [--keep] [CASE...]        CHPIPE_BIN names the binary

A case is a dataset of its own: functions named `case_…` write its files and answer the table that must come back. What ClickHouse
cannot hold is refused by file and column, and left out by `--exclude`.
"""

import argparse
import datetime
import decimal
import io
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 7
D = decimal.Decimal


# ---- values, written and read ---------------------------------------------------------------------------------------

PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def missing(kind):
    """What ClickHouse has in the place of NULL: it has no NULL of arrays, maps and tuples."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_map(kind):
        return []
    if pa.types.is_struct(kind):
        return [missing(field.type) for field in kind]
    return None


def plain(scalar):
    """A value of any Arrow type as numbers, bytes and lists of them: equal values are equal whatever type carries them."""
    kind = scalar.type
    if pa.types.is_dictionary(kind):
        return plain(scalar.value) if scalar.is_valid else None
    if not scalar.is_valid:
        return missing(kind)
    if pa.types.is_timestamp(kind) or pa.types.is_time(kind):
        return scalar.value * (PER_SECOND["ns"] // PER_SECOND[kind.unit])
    if pa.types.is_duration(kind):
        return scalar.value
    if pa.types.is_date(kind):
        return (scalar.as_py() - datetime.date(1970, 1, 1)).days
    if pa.types.is_floating(kind):
        value = scalar.as_py()
        return "nan" if math.isnan(value) else repr(float(value))
    if pa.types.is_decimal(kind):
        return scalar.as_py()
    if pa.types.is_struct(kind):
        return [plain(scalar[index]) for index in range(len(kind))]
    if pa.types.is_map(kind):
        return [] if scalar.values is None else [[plain(entry[0]), plain(entry[1])] for entry in scalar.values]
    if hasattr(scalar, "values"):
        return [plain(item) for item in scalar.values]
    value = scalar.as_py()
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, uuid.UUID):
        return value.bytes
    return int(value) if isinstance(value, bool) else value


def plain_rows(table):
    columns = [[plain(scalar) for scalar in column] for column in table.columns]
    return sorted((list(row) for row in zip(*columns)), key=lambda row: row[0])


# ---- the files ------------------------------------------------------------------------------------------------------


def cycle(values, kind):
    """A column of as many rows as every case has, the last one NULL."""
    return pa.array([values[index % len(values)] for index in range(ROWS - 1)] + [None], kind)


def with_id(**columns):
    return pa.table({"id": pa.array(range(ROWS), pa.int64()), **columns})


def write(folder, table, name="part-0.parquet", **options):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)


def case_numbers(folder):
    columns = {}
    for bits in (8, 16, 32, 64):
        edge = 1 << (bits - 1)
        columns[f"int{bits}"] = cycle([-edge, edge - 1, 0, -1], getattr(pa, f"int{bits}")())
        columns[f"uint{bits}"] = cycle([0, 2 * edge - 1, edge], getattr(pa, f"uint{bits}")())
    columns["bool"] = cycle([True, False], pa.bool_())
    columns["float16"] = cycle([0.5, -2.0, 65504.0, math.nan, math.inf], pa.float16())
    columns["float32"] = cycle([0.1, -0.0, math.nan, math.inf, -math.inf], pa.float32())
    columns["float64"] = cycle([0.1, -0.0, 5e-324, math.nan, 1.7976931348623157e308], pa.float64())
    table = with_id(**columns)
    write(folder, table)
    return table


def case_decimals(folder):
    columns = {}
    for bits, digits in ((32, 9), (64, 18), (128, 38), (256, 76)):
        for scale in (0, 2, digits):
            # Python's own arithmetic would round them.
            greatest, least = D((0, (9,) * digits, -scale)), D((1, (9,) * digits, -scale))
            kind = getattr(pa, f"decimal{bits}")(digits, scale)
            columns[f"d{bits}_{scale}"] = cycle([greatest, least, D((0, (1,), -scale)), D((0, (0,), -scale))], kind)
    columns["d128_small"] = cycle([D("1.5"), D("-9.9")], pa.decimal128(2, 1))
    table = with_id(**columns)
    write(folder, table)
    # The same values as integers where they fit.
    second = table.set_column(0, "id", pa.array(range(ROWS, 2 * ROWS), pa.int64()))
    write(folder, second, "part-1.parquet", store_decimal_as_integer=True)
    return pa.concat_tables([table, second])


def case_times(folder):
    moments = [0, 1, -1, 1_700_000_000, -2_000_000_000, 4_000_000_000]
    columns = {}
    for unit, factor in PER_SECOND.items():
        for name, zone in (("", None), ("utc", "UTC"), ("paris", "Europe/Paris"), ("offset", "+05:30"), ("west", "-03:00")):
            values = [moment * factor + (7 if factor > 1 else 0) for moment in moments]
            columns[f"ts_{unit}_{name}"] = cycle(values, pa.timestamp(unit, zone))
        columns[f"duration_{unit}"] = cycle([0, -1, 86_400 * factor], pa.duration(unit))
    for unit in ("s", "ms"):
        columns[f"time32_{unit}"] = cycle([0, 86_399 * PER_SECOND[unit], 1], pa.time32(unit))
    for unit in ("us", "ns"):
        columns[f"time64_{unit}"] = cycle([0, 86_400 * PER_SECOND[unit] - 1, 1], pa.time64(unit))
    columns["date32"] = cycle([0, -25_567, 120_529, 19_000], pa.date32())
    columns["date64"] = cycle([0, -25_567 * 86_400_000, 19_000 * 86_400_000], pa.date64())
    table = with_id(**columns)
    write(folder, table)
    return table


def case_int96(folder):
    values = [0, 1_700_000_000_123_456_789, -1_000_000_000]
    table = with_id(moment=cycle(values, pa.timestamp("ns")), zoned=cycle(values, pa.timestamp("ns", "UTC")))
    write(folder, table, use_deprecated_int96_timestamps=True)
    return table


def case_texts(folder):
    text = ["", "it's \"quoted\" \\ \t\n\0end", "🏎 Räikkönen", "x" * 3_000]
    raw = [b"", b"\x00\xff\xfe", bytes(range(256))]
    table = with_id(
        utf8=cycle(text, pa.string()),
        large_utf8=cycle(text, pa.large_string()),
        view=cycle(text, pa.string_view()),
        raw=cycle(raw, pa.binary()),
        large_raw=cycle(raw, pa.large_binary()),
        raw_view=cycle(raw, pa.binary_view()),
        fixed=cycle([b"\x00\x01\xff", b"abc"], pa.binary(3)),
        uuid=pa.array([index.to_bytes(16, "big") for index in range(ROWS)], pa.uuid()),
        json=cycle(['{"a": [1, null]}', "[]"], pa.json_()),
        dictionary=cycle(text, pa.string()).dictionary_encode(),
        numbers=cycle([5, -7], pa.int64()).dictionary_encode(),
        enumerated=pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 1, 0, 1, 0], pa.int8()), ["red", "blue"], ordered=True),
        nothing=pa.nulls(ROWS),
        always_null=pa.nulls(ROWS, pa.int32()),
    )
    write(folder, table, compression="zstd", data_page_version="2.0")
    return table


def case_nested(folder):
    point = pa.struct([("x", pa.int32()), ("a b", pa.string()), ("in.ner", pa.struct([("d", pa.decimal128(10, 2))]))])
    points = [{"x": 1, "a b": "p", "in.ner": {"d": D("1.25")}}, {"x": None, "a b": "", "in.ner": {"d": None}}]
    table = with_id(
        list=cycle([[1, None, 3], [], [0]], pa.list_(pa.int64())),
        large_list=cycle([["a", None], []], pa.large_list(pa.string())),
        fixed_list=pa.array([[index, index + 1] for index in range(ROWS)], pa.list_(pa.int16(), 2)),
        lists=cycle([[[1], [], [2, 3]], [[]], []], pa.list_(pa.list_(pa.uint8()))),
        times=cycle([[0, 1], [-1]], pa.list_(pa.timestamp("us", "UTC"))),
        struct=cycle(points, point),
        structs=cycle([points, []], pa.list_(point)),
        map=cycle([[("a", 1), ("b", None)], []], pa.map_(pa.string(), pa.int64())),
        map_of_lists=cycle([[(1, ["x", None])], [(2, [])]], pa.map_(pa.int32(), pa.list_(pa.string()))),
        map_of_structs=cycle([[("k", points[0])], []], pa.map_(pa.string(), point)),
        map_by_decimal=cycle([[(D("1.50"), "x")], []], pa.map_(pa.decimal128(5, 2), pa.string())),
        map_by_day=cycle([[(datetime.date(1950, 5, 13), True)]], pa.map_(pa.date32(), pa.bool_())),
        maps=cycle([[[("a", [b"\xff"])], []]], pa.list_(pa.map_(pa.string(), pa.list_(pa.binary())))),
        dictionaries=cycle([["a", None, "a"], []], pa.list_(pa.dictionary(pa.int8(), pa.string()))),
        binaries=cycle([[b"ab", None]], pa.list_(pa.binary(2))),
        struct_of_all=cycle(
            [{"l": [1], "m": [("k", 2)]}, {"l": [], "m": []}],
            pa.struct([("l", pa.list_(pa.int8())), ("m", pa.map_(pa.string(), pa.int8()))]),
        ),
    )
    write(folder, table)
    return table


ODD_NAMES = ["a b", 'q"uo`te\\s\'', "dot.ted", "dots.two.of", "🏁", "Größe", "select", "from", "null", "true", "key", "interval",
             "ID", "1st", "tab\tname", "new\nline", "{x:Int8}", "%s", "*", "?", "--", "/* c */", "index", "date", "a=b", "a/b", ";"]


def case_names(folder):
    """Each name twice: a number, and a list (which ClickHouse takes for a nested column where it has a dot)."""
    columns = {name: cycle([index, -index], pa.int32()) for index, name in enumerate(ODD_NAMES)}
    columns |= {f"{name}.list": cycle([[index] * index, []], pa.list_(pa.int32())) for index, name in enumerate(ODD_NAMES)}
    # ClickHouse takes arrays whose names begin alike for parts of one column, and has names like these for parts of columns.
    columns |= {"n.a": cycle([[1, 2], []], pa.list_(pa.int8())), "n.b": cycle([[], ["x"]], pa.list_(pa.string()))}
    columns |= {f"{name}.null": cycle([name], pa.string()) for name in ("a b", "dot.ted")}
    columns |= {f"{name}.size0": cycle([1], pa.int8()) for name in ("n", "a b.list")}
    columns |= {name: cycle([name], pa.string()) for name in ("_file", "_size", "_time", "_etag", "_part", "_partition_id")}
    table = with_id(**columns)
    write(folder, table)
    return table


def case_groups(folder):
    """Row groups and files: an empty file, one without row groups, one with many, columns in another order or missing."""
    ids = pa.array(range(1_000), pa.int64())
    words = pa.array([f"w{index % 10}" for index in range(1_000)])
    numbers = pa.array([None if index % 3 == 0 else index for index in range(1_000)], pa.int32())
    table = pa.table({"id": ids, "word": words, "number": numbers})
    write(folder, table, "a.parquet", row_group_size=64, compression="gzip", use_dictionary=False)
    write(folder, table.slice(0, 0), "b.parquet")
    with pq.ParquetWriter(folder / "c.parquet", table.schema):
        pass
    more = pa.table({"word": ["late"], "id": pa.array([1_000], pa.int64())})
    write(folder, more, "d/e.parquet", compression="brotli")
    return pa.concat_tables([table, more.select(["id", "word"])], promote_options="default")


def case_duckdb(folder):
    """Files of another writer: no Arrow schema beside them, types that pyarrow does not write."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = [
        "range::BIGINT AS id", "(range % 2 = 0) AS flag", "range::TINYINT AS tiny", "range::UTINYINT AS utiny",
        "range::USMALLINT AS usmall", "(4294967295 - range)::UINTEGER AS uint", "(18446744073709551615 - range)::UBIGINT AS ubig",
        "range::FLOAT / 3 AS f32", "range::DOUBLE / 3 AS f64", "range::DECIMAL(4, 1) AS d4", "range::DECIMAL(18, 3) AS d18",
        "range::DECIMAL(38, 10) AS d38", "'it''s ' || range AS text", "('\\xAA\\x00' || range)::BLOB AS blob",
        "DATE '1950-05-13' + range::INTEGER AS day", "TIME '23:59:59.999999' AS clock",
        "TIMESTAMP '1969-12-31 23:59:59.123456' + to_days(range::INTEGER) AS us",
        "'2024-02-29 12:00:00.123456789'::TIMESTAMP_NS AS ns", "'2024-02-29 12:00:00.123'::TIMESTAMP_MS AS ms",
        "'2024-02-29 12:00:00'::TIMESTAMP_S AS s", "to_timestamp(1700000000.125 + range) AS zoned",
        "CASE WHEN range % 2 = 0 THEN 'red' ELSE 'blue' END::ENUM('red', 'blue') AS colour",
        "CASE WHEN range > 2 THEN [range, NULL] END AS list", "[[range], []] AS lists",
        "{'x': range, 'y z': NULL::VARCHAR} AS struct", "MAP {'k': range, 'l': NULL} AS map",
        "[range, range + 1]::BIGINT[2] AS pair", "('00112233-4455-6677-8899-aabbccddee0' || range)::UUID AS uuid",
        "CASE WHEN range = 1 THEN range END AS gaps", "NULL::INTEGER AS always_null",
    ]
    query = f"SELECT {', '.join(columns)} FROM range({ROWS})"
    target = str(folder / "data.parquet").replace("'", "''")
    duckdb.connect().execute(f"COPY ({query}) TO '{target}' (FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE 2048)")
    return pq.read_table(folder / "data.parquet")


CASES = {name.removeprefix("case_"): case for name, case in list(globals().items()) if name.startswith("case_")}


# ---- chpipe ---------------------------------------------------------------------------------------------------------


class Project:
    def __init__(self, path):
        self.path = path
        self.binary = os.environ.get("CHPIPE_BIN", str(Path(__file__).resolve().parents[2] / "target/debug/chpipe"))
        path.mkdir(parents=True, exist_ok=True)
        (path / "chpipe.toml").write_text('[source]\nendpoints = "none"\n[lake]\npath = "lake"\n')
        self.environment = {**os.environ, "CHPIPE_WAREHOUSE_PATH": "warehouse", "NO_COLOR": "1"}

    def run(self, *arguments, code=0):
        result = subprocess.run(
            [self.binary, *arguments], cwd=self.path, env=self.environment, capture_output=True, timeout=300, check=False
        )
        if result.returncode != code:
            output = (result.stdout + result.stderr).decode(errors="replace")
            raise AssertionError(f"chpipe {' '.join(arguments)} ended with {result.returncode}:\n{output}")
        return result

    def table(self, sql):
        settings = ["--setting", "output_format_arrow_string_as_string=0"]
        output = self.run("query", "--format", "Arrow", *settings, sql).stdout
        return pa.ipc.open_file(io.BytesIO(output)).read_all()


def identifier(name):
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def shown(value):
    text = repr(value)
    return text if len(text) < 200 else text[:200] + "…"


def with_times(written, read):
    """ClickHouse writes a Time64 into Arrow as the bytes of its count."""
    for index, field in enumerate(written.schema):
        if pa.types.is_time(field.type):
            factor = PER_SECOND["ns"] // max(PER_SECOND[field.type.unit], PER_SECOND["ms"])
            values = [None if value is None else int.from_bytes(value, "little", signed=True) * factor
                      for value in read.column(index).to_pylist()]
            read = read.set_column(index, field.name, pa.array(values, pa.time64("ns")))
    return read


def compare(name, written, read, failures):
    expected, found = plain_rows(written), plain_rows(with_times(written, read))
    if len(expected) != len(found):
        failures.append(f"{name}: {len(expected)} rows were written and {len(found)} read")
        return
    for column, kind in enumerate(written.schema.types):
        for before, after in zip(expected, found):
            if before[column] != after[column]:
                field = written.schema.names[column]
                failures.append(
                    f"{name}.{field!r} ({kind}, read as {read.schema.types[column]}), id {before[0]}: "
                    f"{shown(before[column])} was written, {shown(after[column])} read"
                )
                break


def refusals(project, failures):
    """What cannot be a column is named with its file, and left out where that is asked for."""

    def says(result, *parts):
        output = (result.stdout + result.stderr).decode(errors="replace")
        failures.extend(f"`{part}` is not said in:\n{output}" for part in parts if part not in output)

    def infer(name, *arguments, code=0):
        return project.run("ddl", "infer", f"s3://foreign/{name}/**.parquet", "--name", name, *arguments, code=code)

    folder = project.path / "lake/foreign"
    (folder / "spans").mkdir(parents=True)
    target = str(folder / "spans/data.parquet")
    duckdb.connect().execute(
        "COPY (SELECT range AS id, to_days(range::INTEGER) AS \"how long\", {'span': to_days(1), 'x': 1} AS inner FROM range(3)) "
        f"TO '{target}' (FORMAT parquet)"
    )
    says(infer("spans", code=2), "spans/data.parquet", "`how long`", "Interval", 'exclude: ["how long"]', "--exclude how long")
    says(infer("spans", "--exclude", "how long", code=2), "`inner`", "in `span`")
    says(infer("spans", "--exclude", "how long", "--exclude", "gone", code=2), "`inner`")
    says(infer("spans", "--exclude", "how long", "--exclude", "inner"), 'ddl/tables/spans.yml written')

    own = with_id(_path=cycle(["mine"], pa.string()), _loaded_at=cycle([1], pa.int64()))
    write(folder / "own", own)
    says(infer("own", code=2), "own/part-0.parquet", "`_path`", "where a row came from")
    says(infer("own", "--exclude", "_path", "--exclude", "_loaded_at", "--exclude", "gone", code=2), "`gone` in exclude")
    infer("own", "--exclude", "_path", "--exclude", "_loaded_at")

    write(folder / "twice", pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]))
    says(infer("twice", code=2), "twice/part-0.parquet", "two of its columns are named `a`")

    far = with_id(day=cycle([0, 2_932_896], pa.date32()))
    write(folder / "far", far)
    infer("far")
    project.run("migrate")
    # Years that Date32 has not: the file is named, and its days come as numbers where the spec says so.
    says(project.run("load", "--endpoint", "far", code=1), "far/part-0.parquet")
    spec = project.path / "ddl/tables/far.yml"
    spec.write_text(spec.read_text() + "columns: {day: {type: Nullable(Int32)}}\n")
    project.run("migrate")
    project.run("load")
    compare("far", far.set_column(1, "day", far["day"].cast(pa.int32())), project.table("SELECT id, day FROM raw.raw_far"), failures)
    compare("spans", pa.table({"id": range(3)}), project.table("SELECT id FROM raw.raw_spans"), failures)
    compare("own", own.select(["id"]), project.table("SELECT id FROM raw.raw_own"), failures)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="keep the project, and say where it is")
    parser.add_argument("cases", nargs="*", metavar="CASE")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chpipe-parquet-"))
    failures, written = [], {}
    try:
        project = Project(folder)
        names = arguments.cases or list(CASES)
        for name in names:
            written[name] = CASES[name](folder / "lake/foreign" / name)
            project.run("ddl", "infer", f"s3://foreign/{name}/**.parquet", "--name", name)
        project.run("migrate")
        project.run("load")
        for name, table in written.items():
            columns = ", ".join(identifier(column) for column in table.schema.names)
            compare(name, table, project.table(f"SELECT {columns} FROM raw.{identifier('raw_' + name)}"), failures)
        if not arguments.cases:
            refusals(project, failures)
        project.run("migrate", "--check")
    finally:
        if arguments.keep:
            print(folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if failures:
        sys.exit("\n".join(failures))
    columns = sum(len(table.schema) for table in written.values())
    print(f"{len(written)} datasets of {columns} columns came back as they were written")


if __name__ == "__main__":
    main()
