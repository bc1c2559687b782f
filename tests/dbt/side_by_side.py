"""Runs every project of snapshots_tests/projects with chpipe and with dbt + dbt-clickhouse, each against a `chpipe serve` of its
own, and compares after every command: exit code, printed result, statuses, compiled SQL, manifest, catalog, relations and rows.
chpipe's artifacts are validated against the JSON schemas that dbt-core's classes define.

    side_by_side.py [--keep] [--verbose] [PROJECT...]        CHPIPE_BIN names the binary

A project has a file `commands`: one command line each, without the program's name. `save FOLDER` keeps the artifacts there (for
--state), `overlay FOLDER` lays the folder over the project. What differs on purpose (docs/compatibility.md) is taken out by the
`settled_…` functions, each with its reason.
"""

import argparse
import contextlib
import datetime
import difflib
import http.server
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.error
import urllib.request
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECTS = ROOT / "snapshots_tests" / "projects"
SHOWN = 12
"""Lines of a difference that are shown."""
PRINTS_RESULT = {"ls", "list", "show", "run-operation"}
BEGAN = datetime.datetime.now(datetime.timezone.utc)


# ---- what is expected to differ -------------------------------------------------------------------------------------


def without(keys):
    """A rule that leaves keys of mappings out, wherever they are."""

    def rule(value):
        if isinstance(value, dict):
            return {key: rule(item) for key, item in value.items() if key not in keys}
        if isinstance(value, list):
            return [rule(item) for item in value]
        return value

    return rule


VOLATILE = without({"created_at", "generated_at", "invocation_id", "invocation_started_at", "run_started_at", "user_id",
                    "send_anonymous_usage_stats", "dbt_version", "root_path", "index"})
BUILT_IN = re.compile(r"^(macro|doc)\.(dbt|dbt_clickhouse)\.")
RUNS = {"run", "test", "build", "seed", "snapshot", "retry", "run-operation", "clone"}


def settled_manifest(manifest, command, results):
    manifest = VOLATILE(manifest)
    statuses = {result["unique_id"]: result["status"] for result in (results or {}).get("results", [])}
    for section in ("macros", "docs"):
        manifest[section] = {key: value for key, value in manifest[section].items() if not BUILT_IN.match(key)}
    for name, macro in manifest["macros"].items():
        macro["depends_on"]["macros"] = [other for other in macro["depends_on"]["macros"] if other != name]
    for node in manifest["nodes"].values():
        for column in node["columns"].values():
            # A Python set: in another order each time.
            column["tags"], column["config"]["tags"] = sorted(column["tags"]), sorted(column["config"]["tags"])
        if "compiled_code" in node:
            node["compiled_code"] = settled_sql(node["compiled_code"])
        for cte in node.get("extra_ctes", []):
            cte["sql"] = settled_sql(cte["sql"])
        for config in (node["config"], node["unrendered_config"]):
            # dbt-clickhouse writes this setting into the configuration of what it creates.
            settings = config.get("settings")
            if isinstance(settings, dict):
                settings.pop("replicated_deduplication_window", None)
                if not settings:
                    del config["settings"]
        if statuses.get(node["unique_id"]) == "error":
            # Whether target/run has anything by then depends on how far it got.
            node.pop("build_path")
        for ref in node.get("refs", []):
            # dbt's `ref` overridden by a macro has the version as text.
            ref["version"] = ref["version"] if ref["version"] is None else str(ref["version"])
        if command in RUNS and "depends_on" in node:
            # dbt adds the macros of its materializations once a node was run.
            macros = node["depends_on"]["macros"]
            node["depends_on"]["macros"] = [name for name in macros if not BUILT_IN.match(name)]
    return manifest


def settled_catalog(catalog):
    """Without statistics: dbt-clickhouse gives none. Times and ids in snapshots have other types, on purpose. A source that names a
    `database` is missing in dbt's, which looks for it in another."""
    catalog = without({"stats"})(VOLATILE(catalog))
    catalog["sources"] = {name: source for name, source in catalog["sources"].items() if ".of_database." not in name}
    for name, node in catalog["nodes"].items():
        for column in node["columns"].values() if name.startswith("snapshot.") else []:
            if column["name"].startswith("dbt_"):
                column.pop("type")
    return catalog


def settled_sql(sql):
    """Without blank lines and the ends of lines: the built-in macros are others than dbt's and leave other spaces."""
    return "\n".join(line.rstrip() for line in sql.splitlines() if line.strip())


def settled_table(created):
    """A CREATE without UUIDs, and without the setting that makes no difference outside of a cluster."""
    created = re.sub(r" UUID '[^']*'", "", created)
    created = re.sub(r"\.inner_id\.[0-9a-f-]{36}", ".inner", created)
    created = re.sub(r"(SETTINGS |, )replicated_deduplication_window = '?0'?(, )?", lambda found: found[1] if found[2] else "", created)
    # chpipe's dictionaries ask as the server's own user, without a password in the statement.
    created = re.sub(r"SOURCE\(CLICKHOUSE\(.*?\)\) (?=LIFETIME|LAYOUT)", "", created)
    return plain_keys(created)


def plain_keys(created):
    """`ORDER BY (a)` as `ORDER BY a`."""
    for word in ("PARTITION BY ", "PRIMARY KEY ", "ORDER BY "):
        start = created.find(word + "(")
        while start >= 0:
            first, depth, single = start + len(word), 0, True
            for end in range(first, len(created)):
                depth += {"(": 1, ")": -1}.get(created[end], 0)
                single &= not (depth == 1 and created[end] == ",")
                if depth == 0:
                    break
            if not single:
                break
            created = created[:first] + created[first + 1:end] + created[end + 1:]
            start = created.find(word + "(")
    return created


# ---- the two programs -----------------------------------------------------------------------------------------------


class Server:
    """A `chpipe serve` over a warehouse of its own."""

    def __init__(self, binary, folder):
        folder.mkdir(parents=True)
        (folder / "dbt_project.yml").write_text("name: served\nversion: '1.0'\nprofile: served\n")
        (folder / "profiles.yml").write_text(
            "served: {target: d, outputs: {d: {type: clickhouse, driver: embedded, path: wh, schema: side}}}\n")
        (folder / "chpipe.toml").write_text("[serve]\nuser = \"side\"\npassword = \"by-side\"\n")
        self.log = open(folder / "serve.log", "w+")
        self.process = subprocess.Popen([binary, "serve", "--port", "0", "--s3-port", "0"], cwd=folder, stdout=self.log,
                                        stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 60
        while True:
            said = (folder / "serve.log").read_text()
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/", said):
                self.port = int(found[1])
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"`chpipe serve` did not come up:\n{said}")
            time.sleep(0.05)

    def query(self, sql):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/?default_format=JSONCompact&output_format_json_quote_64bit_integers=0",
                                         data=sql.encode(), headers={"X-ClickHouse-User": "side", "X-ClickHouse-Key": "by-side"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())["data"]

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()


class Hub(http.server.ThreadingHTTPServer):
    """The packages in the folder `registry` of projects, as a package hub: registry/NAMESPACE/NAME/VERSION is one."""

    def __init__(self):
        hub = self

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = hub.body(self.path.strip("/").split("/"))
                self.send_response(200 if body else 404)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"
        self.packages = {f"{folder.parent.name}/{folder.name}": folder for folder in PROJECTS.glob("*/registry/*/*")}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def body(self, words):
        match words:
            case ["api", "v1", "index.json"]:
                return json.dumps(sorted(self.packages)).encode()
            case ["api", "v1", namespace, name] if folder := self.packages.get(f"{namespace}/{name.removesuffix('.json')}"):
                versions = {version.name: self.version(namespace, folder.name, version) for version in folder.iterdir()}
                return json.dumps({"name": folder.name, "namespace": namespace, "versions": versions}).encode()
            case ["archives", namespace, name, archive]:
                folder = self.packages[f"{namespace}/{name}"] / archive.removesuffix(".tar.gz")
                out = io.BytesIO()
                with tarfile.open(fileobj=out, mode="w:gz") as packed:
                    packed.add(folder, f"{name}-{folder.name}")
                return out.getvalue()

    def version(self, namespace, name, folder):
        needs = folder / "packages.yml"
        import yaml

        return {"id": f"{namespace}/{name}/{folder.name}", "name": name, "version": folder.name, "works_with": [],
                "packages": yaml.safe_load(needs.read_text())["packages"] if needs.exists() else [],
                "downloads": {"tarball": f"{self.url}archives/{namespace}/{name}/{folder.name}.tar.gz", "format": "tgz"}}


def repositories(folder):
    """The folders `repositories/NAME/VERSION` of projects as bare repositories: a commit and a tag for each version, the newest
    only on the branch `next`. Their commits have the same ids each time."""
    folder.mkdir()
    fixed = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER")
             for what, value in (("NAME", "side"), ("EMAIL", "side@example.com"), ("DATE", "2024-01-01T00:00:00Z"))}
    environment = {**os.environ, **fixed, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    for source in PROJECTS.glob("*/repositories/*"):
        bare, tree = folder / f"{source.name}.git", folder / source.name
        git = lambda *words: subprocess.run(["git", "--git-dir", bare, "--work-tree", tree, *words], cwd=folder, env=environment,
                                            check=True, capture_output=True)
        subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch", "main", bare], env=environment, check=True)
        for version in (versions := sorted(source.iterdir())):
            shutil.rmtree(tree, ignore_errors=True)
            # With new times: git takes a file of the same size and time for the same.
            shutil.copytree(version, tree, copy_function=shutil.copy)
            if version == versions[-1]:
                git("checkout", "--quiet", "-b", "next")
            git("add", "--all")
            git("commit", "--quiet", "--message", version.name)
            git("tag", version.name)
        git("symbolic-ref", "HEAD", "refs/heads/main")
        # `mono` is also asked for without its ending.
        shutil.rmtree(tree)
        tree.symlink_to(bare)
    return folder


class Program:
    """One of the two, with its server and its copies of the projects."""

    def __init__(self, name, binary, work):
        self.name = name
        self.work = work / name
        self.server = Server(binary, self.work / "server")

    def project(self, source):
        folder = self.work / "projects" / source.name
        shutil.copytree(source, folder)
        profile = {"type": "clickhouse", "driver": "http", "host": "127.0.0.1", "port": self.server.port, "user": "side",
                   "password": "by-side", "schema": f"side_{source.name}", "threads": 2}
        self.profiles = folder.parent / f"{source.name}.profiles"
        self.profiles.mkdir()
        (self.profiles / "profiles.yml").write_text(json.dumps({"side": {"target": "side", "outputs": {"side": profile}}}))
        self.databases = f"database like 'side\\\\_{source.name}%'"
        return folder

    def run(self, folder, words):
        """Exit code, stdout, stderr."""
        raise NotImplementedError

    def step(self, folder, line, schemas):
        words = shlex.split(line)
        if words[0] == "save":
            shutil.copytree(folder / "target", folder / words[1], dirs_exist_ok=True)
            return {}
        if words[0] == "overlay":
            shutil.copytree(folder / words[1], folder, dirs_exist_ok=True)
            return {}
        shutil.rmtree(folder / "target" / "compiled", ignore_errors=True)
        for artifact in ("run_results", "catalog", "sources"):
            needed = artifact == "run_results" and words[0] == "retry" or artifact == "sources" and "source_status:" in line
            if not needed:
                (folder / "target" / f"{artifact}.json").unlink(missing_ok=True)
        quiet = ["--quiet"] if words[0] in PRINTS_RESULT else []
        code, stdout, stderr = self.run(folder, quiet + words)
        seen = {"exit code": code, "said": (stdout + stderr) if code else ""}
        if quiet:
            seen["output"] = stdout.strip().splitlines() if code == 0 else []
        if done := re.findall(r"Done\. .*", stdout):
            seen["summary"] = done[-1]
        if words[0] == "deps":
            installed = folder / "dbt_packages"
            seen["lock"] = (folder / "package-lock.yml").read_text() if (folder / "package-lock.yml").exists() else None
            seen["installed"] = {str(path.relative_to(installed)): path.read_text() for path in sorted(installed.glob("*/**/*.*"))
                                 if ".git" not in path.parts}
        if words[0] not in ("ls", "list", "show"):
            seen.update(self.artifacts(folder / "target", words[0], schemas))
        if words[0] not in ("ls", "list", "parse", "deps"):
            seen.update(self.warehouse())
        return seen

    def artifacts(self, target, command, schemas):
        seen = {}
        read = lambda name: json.loads((target / name).read_text()) if (target / name).exists() else None
        for name, schema in schemas.items():
            if (artifact := read(f"{name}.json")) is not None:
                seen[f"{name}.json is valid"] = [
                    f"{'/'.join(map(str, error.absolute_path))}: {error.message[:300]}" for error in schema.iter_errors(artifact)][:5]
        if (sources := read("sources.json")) is not None:
            seen["freshness"] = {result["unique_id"]: [result["status"], result.get("criteria")] for result in sources["results"]}
        if (results := read("run_results.json")) is not None:
            seen["statuses"] = {result["unique_id"]: [result["status"], result["failures"]] for result in results["results"]}
        if (manifest := read("manifest.json")) is not None:
            seen["manifest"] = settled_manifest(manifest, command, results)
        if (catalog := read("catalog.json")) is not None:
            seen["catalog"] = settled_catalog(catalog)
        compiled = target / "compiled"
        seen["compiled"] = {str(path.relative_to(compiled)): settled_sql(path.read_text()) for path in sorted(compiled.rglob("*"))
                            # dbt also writes the SQL of unit tests, by the names of their inputs.
                            if path.is_file() and "-- Fixture for" not in path.read_text()}
        return seen

    def warehouse(self):
        # chpipe keeps there what is left to do of a microbatch model.
        tables = self.server.query(
            "select database, name, engine, create_table_query, comment from system.tables where not is_temporary and "
            "not endsWith(name, '__dbt_batches') and "
            f"{self.databases} order by database, name")
        snapshots = {f"{database}.{name}" for database, name, *_ in tables
                     if (database, name) in {(row[0], row[1]) for row in self.server.query(
                         f"select database, table from system.columns where name = 'dbt_scd_id' and {self.databases}")}}
        columns = self.server.query(
            "select concat(database, '.', table), name, type, comment from system.columns where "
            "not endsWith(table, '__dbt_batches') and "
            f"{self.databases} order by database, table, position")
        relations, rows = {}, {}
        for database, name, engine, created, comment in tables:
            shown = f"{database}.{'.inner' if name.startswith('.inner_id.') else name}"
            # A snapshot's table is laid out otherwise, on purpose; its rows are compared.
            relations[shown] = "snapshot" if shown in snapshots else settled_table(created)
            if engine in ("MaterializedView", "Dictionary"):
                continue
            names = [column for table, column, _, _ in columns if table == f"{database}.{name}"]
            wanted = ", ".join(f"`{column}`" for column in names)
            try:
                rows[shown] = self.settled(names, self.server.query(f"select {wanted} from `{database}`.`{name}`"))
            except urllib.error.HTTPError as error:
                rows[shown] = [f"{error.read().decode()[:200]}"]
        return {"relations": relations, "rows": rows,
                "columns": [column for column in columns
                            if column[0] not in snapshots and not column[0].split(".", 1)[1].startswith(".inner")]}

    @staticmethod
    def settled(names, rows):
        """Rows in an order that does not depend on who wrote them, the present as one word."""

        def value(name, item):
            if name == "dbt_scd_id":
                return "-"
            if isinstance(item, str) and re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?", item):
                at = datetime.datetime.fromisoformat(item).replace(tzinfo=datetime.timezone.utc)
                return "now" if abs(at - BEGAN) < datetime.timedelta(hours=26) else item
            return item

        return sorted((json.dumps([value(name, item) for name, item in zip(names, row)]) for row in rows))


class Chpipe(Program):
    def __init__(self, binary, work):
        super().__init__("chpipe", binary, work)
        self.binary = binary

    def run(self, folder, words):
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("DBT_", "CHPIPE_")) or key == "CHPIPE_LIBCHDB"}
        environment.update({"NO_COLOR": "1", "DBT_PACKAGE_HUB_URL": os.environ["DBT_PACKAGE_HUB_URL"]})
        ended = subprocess.run([self.binary, *words, "--profiles-dir", self.profiles], cwd=folder, capture_output=True, text=True,
                               timeout=120, env=environment)
        return ended.returncode, ended.stdout, ended.stderr


class Dbt(Program):
    def __init__(self, binary, work):
        super().__init__("dbt", binary, work)
        os.environ.update({"DBT_SEND_ANONYMOUS_USAGE_STATS": "false", "DO_NOT_TRACK": "1", "DBT_USE_COLORS": "false"})
        from dbt.cli.main import dbtRunner

        self.runner = dbtRunner
        self.manifest = None
        """What `parse` said last, so that a list of `ls` needs no parsing."""

    def run(self, folder, words):
        printed = io.StringIO()
        os.chdir(folder)
        command = next(word for word in words if not word.startswith("-"))
        if command != "ls" or "--vars" in words:
            self.manifest = None
        with contextlib.redirect_stdout(printed):
            ended = self.runner(manifest=self.manifest).invoke([*words, "--profiles-dir", str(self.profiles)])
        if command == "parse":
            self.manifest = ended.result
        code = 0 if ended.success else 2 if ended.exception is not None else 1
        return code, printed.getvalue(), f"{ended.exception}" if ended.exception else ""


# ---- comparing ------------------------------------------------------------------------------------------------------


def differences(dbt, chpipe, path=()):
    """Paths at which two values differ, with both."""
    if isinstance(dbt, dict) and isinstance(chpipe, dict):
        for key in dict.fromkeys([*dbt, *chpipe]):
            if key not in chpipe:
                yield (*path, key), dbt[key], "<nothing>"
            elif key not in dbt:
                yield (*path, key), "<nothing>", chpipe[key]
            else:
                yield from differences(dbt[key], chpipe[key], (*path, key))
    elif isinstance(dbt, list) and isinstance(chpipe, list) and len(dbt) == len(chpipe) and not all(isinstance(item, str) for item in dbt):
        for index, (a, b) in enumerate(zip(dbt, chpipe)):
            yield from differences(a, b, (*path, str(index)))
    elif dbt != chpipe or (isinstance(dbt, bool) != isinstance(chpipe, bool)):
        yield path, dbt, chpipe


def lines(value):
    if isinstance(value, str):
        return value.splitlines() if "\n" in value else [json.dumps(value)]
    if isinstance(value, list):
        return [item if isinstance(item, str) else json.dumps(item) for item in value]
    return json.dumps(value, indent=1, sort_keys=True).splitlines()


def show(path, dbt, chpipe):
    out = [f"    {' > '.join(path)}"]
    a, b = lines(dbt), lines(chpipe)
    if len(a) == len(b) == 1:
        out += [f"      dbt    {a[0][:400]}", f"      chpipe {b[0][:400]}"]
    else:
        diff = [line for line in difflib.unified_diff(a, b, "dbt", "chpipe", lineterm="", n=1)]
        out += [f"      {line[:400]}" for line in diff[:SHOWN]] + ([f"      … {len(diff) - SHOWN} more lines"] if len(diff) > SHOWN else [])
    return "\n".join(out)


def compare(dbt, chpipe):
    for seen in (dbt, chpipe):
        seen.pop("valid", None)
    a = {key: value for key, value in dbt.items() if not key.endswith("is valid") and key != "said"}
    b = {key: value for key, value in chpipe.items() if not key.endswith("is valid") and key != "said"}
    found = list(differences(a, b))
    for key, errors in chpipe.items():
        if key.endswith("is valid") and errors:
            found.append(((key,), [], errors))
    return found


def schemas():
    from dbt.artifacts.schemas.catalog import CatalogArtifact
    from dbt.artifacts.schemas.freshness import FreshnessExecutionResultArtifact
    from dbt.artifacts.schemas.manifest import WritableManifest
    from dbt.artifacts.schemas.run import RunResultsArtifact
    from jsonschema import Draft202012Validator

    classes = {"manifest": WritableManifest, "run_results": RunResultsArtifact, "catalog": CatalogArtifact,
               "sources": FreshnessExecutionResultArtifact}
    return {name: Draft202012Validator(found.json_schema()) for name, found in classes.items()}


def main():
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", action="store_true", help="keep the working folder")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--all", action="store_true", help="show every difference")
    parser.add_argument("projects", nargs="*")
    arguments = parser.parse_args()
    sources = sorted(path for path in PROJECTS.iterdir() if (path / "commands").exists())
    sources = [path for path in sources if not arguments.projects or path.name in arguments.projects]
    # Whatever hangs must not hang whoever waits for this.
    signal.alarm(1500)
    binary = os.environ.get("CHPIPE_BIN", str(ROOT / "target" / "debug" / "chpipe"))
    work = Path(tempfile.mkdtemp(prefix="chpipe-side-by-side-"))
    programs = []
    bad = steps = 0
    hub = Hub()
    # dbt reads it when it is imported.
    os.environ["DBT_PACKAGE_HUB_URL"] = hub.url
    os.environ["SIDE_GIT"] = str(repositories(work / "git"))
    try:
        programs = [Dbt(binary, work), Chpipe(binary, work)]
        checked = schemas()
        seen = {program.name: {} for program in programs}

        def everything(program):
            for source in sources:
                folder = program.project(source)
                began = time.monotonic()
                for number, line in enumerate(commands(source)):
                    seen[program.name][source.name, number] = program.step(folder, line, checked if program.name == "chpipe" else {})
                seen[program.name][source.name, "seconds"] = time.monotonic() - began

        failures = []

        def in_background():
            try:
                everything(programs[1])
            except BaseException as error:  # told by the main thread
                failures.append(error)

        other = threading.Thread(target=in_background)
        other.start()
        try:
            everything(programs[0])
        finally:
            other.join()
        if failures:
            raise failures[0]
        shown = set()
        for source in sources:
            differ = []
            for number, line in enumerate(commands(source)):
                steps += 1
                dbt, chpipe = seen["dbt"][source.name, number], seen["chpipe"][source.name, number]
                if arguments.verbose:
                    print(f"{source.name}: {line}: {chpipe.get('exit code')} {chpipe.get('summary', '')}")
                    if dbt.get("exit code"):
                        print(dbt.get("said"))
                found = compare(dbt, chpipe)
                if found:
                    differ.append((line, found, dbt, chpipe))
            print(f"{source.name}: {len(commands(source))} commands, dbt {seen['dbt'][source.name, 'seconds']:.1f} s, chpipe "
                  f"{seen['chpipe'][source.name, 'seconds']:.1f} s: {'as dbt' if not differ else f'{len(differ)} commands differ'}")
            for line, found, dbt, chpipe in differ:
                bad += 1
                print(f"  $ {line}: {len(found)} differences")
                for one in found:
                    # The same difference of many nodes, or after each command, is shown once.
                    kind = (source.name, one[0][0], one[0][-1], json.dumps(one[1:])[:200])
                    if arguments.all or kind not in shown:
                        shown.add(kind)
                        print(show(*one))
                if dbt.get("exit code") != chpipe.get("exit code"):
                    print("\n".join(f"      {name}: {text}" for name, seen_by in (("dbt", dbt), ("chpipe", chpipe)) for text in seen_by.get("said", "").splitlines()[-25:]))
    finally:
        for program in programs:
            program.server.stop()
        hub.shutdown()
        os.chdir(ROOT)
        if arguments.keep:
            print(f"kept: {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    print(f"{steps} commands compared, {bad} differ")
    sys.exit(1 if bad else 0)


def commands(source):
    text = (source / "commands").read_text().splitlines()
    return [line for line in text if line.strip() and not line.startswith("#")]


if __name__ == "__main__":
    main()
