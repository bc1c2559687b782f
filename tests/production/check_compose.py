#!/usr/bin/env python3
"""The compose stack by schema and by its own rules, without an engine.

The compose specification's schema (of check-jsonschema) accepts the file; every variable is in .env.example and has no default where it
is a secret; every mounted file, build target and referenced service, volume or secret exists; every image is pinned; every service
has a health check and waits for health; the configurations that are mounted parse.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker/compose.yml"
SECRET = re.compile(r"PASSWORD|SECRET|_KEY|TOKEN")
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?:(:?[-?+])([^}]*))?\}")
failed: list[str] = []


def expect(holds: object, problem: str) -> None:
    if not holds:
        failed.append(problem)


def variables_of(path: Path) -> dict[str, str]:
    """Variables of an env file, those in comments included."""
    lines = (line.lstrip("#").strip() for line in path.read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if re.match(r"^[A-Z][A-Z0-9_]*=", line))


def check_variables(text: str) -> None:
    example, dev = variables_of(ROOT / ".env.example"), variables_of(ROOT / "docker/dev.env")
    used = VARIABLE.findall(text)
    for name, operator, _ in used:
        expect(name in example, f"${{{name}}} is not in .env.example")
        if SECRET.search(name) and name != "CHPIPE_SOURCE_TOKEN":
            expect(operator == ":?", f"${{{name}}} is a secret and must be required (:?), not defaulted")
        if operator == ":?":
            expect(dev.get(name), f"${{{name}}} is not in docker/dev.env")
    for name, value in example.items():
        if SECRET.search(name) and name != "CHPIPE_SOURCE_TOKEN":
            expect(not value, f".env.example gives {name} a value")
    names = {name for name, *_ in used}
    for name in dev:
        expect(name in names or name == "ALERT_WEBHOOK_URL", f"docker/dev.env sets {name}, which nothing uses")
    for value in dev.values():
        if len(value) > 7 and value not in {"minioadmin", "password"}:
            expect(value not in text, "a password of docker/dev.env stands in compose.yml")


def targets_of_dockerfile() -> dict[str, str]:
    """Stage name to the image or stage it starts from."""
    return {
        name: base
        for base, name in re.findall(r"^FROM\s+(\S+)\s+AS\s+(\S+)", (ROOT / "docker/Dockerfile").read_text(), re.MULTILINE)
    }


def pinned(image: str) -> bool:
    """A tag with a version of at least two numbers or a date, never a moving one."""
    _, _, tag = image.rpartition(":")
    return bool(re.search(r"\d+\.\d+|\d{4}-\d{2}-\d{2}|\d{8}", tag)) and "latest" not in tag


def check_service(name: str, service: dict, compose: dict, stages: dict[str, str]) -> None:
    image = service.get("image")
    build = service.get("build")
    expect(image and pinned(image), f"{name}: image {image} is not pinned")
    if build:
        expect(build["target"] in stages, f"{name}: docker/Dockerfile has no target {build['target']}")
        expect((ROOT / build["context"] / build["dockerfile"]).is_file(), f"{name}: {build['dockerfile']} is missing")
    if_ends = service.get("restart", "no") == "no"
    if not if_ends:
        check = service.get("healthcheck", {})
        expect(check.get("test") and check.get("interval") and check.get("timeout") and check.get("retries"), f"{name}: no complete health check")
        expect(service.get("restart") == "unless-stopped", f"{name}: is not restarted")
    for other, how in service.get("depends_on", {}).items():
        expect(other in compose["services"], f"{name}: depends on unknown {other}")
        ends = compose["services"].get(other, {}).get("restart", "no") == "no"
        wanted = "service_completed_successfully" if ends else "service_healthy"
        expect(how.get("condition") == wanted, f"{name}: must wait for {other} by {wanted}")
    for mount in service.get("volumes", []):
        source, target, *mode = mount.split(":")
        if source.startswith("."):
            expect((ROOT / source).exists(), f"{name}: mounts {source}, which is missing")
            expect(mode == ["ro"], f"{name}: {source} is not mounted read-only")
        else:
            expect(source in compose["volumes"], f"{name}: unknown volume {source}")
        expect(target.startswith("/"), f"{name}: {target} is no absolute path")
    for secret in service.get("secrets", []):
        expect(secret in compose["secrets"], f"{name}: unknown secret {secret}")
    for port in service.get("ports", []):
        expect(port.startswith("${BIND_ADDRESS:-127.0.0.1}:"), f"{name}: port {port} is not bound to loopback by default")


def check_references(compose: dict) -> None:
    """Each host:port that a service or a configuration names is a service of the stack."""
    services = set(compose["services"])
    texts = {"compose.yml": COMPOSE.read_text()}
    for path in (ROOT / "docker").rglob("*"):
        if path.suffix in {".yml", ".sh", ".xml", ".py"} and path.is_file() and "tests" not in path.parts:
            texts[str(path.relative_to(ROOT))] = path.read_text()
    for place, text in texts.items():
        for host in re.findall(r"(?:://|@|\")([a-z][a-z-]+):\d{4,5}\b", text):
            expect(host in services or host == "localhost", f"{place}: {host} is no service of the stack")


def check_configurations() -> None:
    for path in (ROOT / "docker").rglob("*"):
        try:
            if path.suffix == ".xml":
                expect(ElementTree.parse(path).getroot().tag == "clickhouse", f"{path}: its root is not <clickhouse>")
            elif path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".yml":
                list(yaml.safe_load_all(path.read_text()))
            elif path.suffix == ".sh":
                subprocess.run(["bash", "-n", str(path)], check=True, capture_output=True)
        except (ElementTree.ParseError, ValueError, yaml.YAMLError, subprocess.CalledProcessError) as error:
            failed.append(f"{path}: {error}")
    for name in ("keeper", "zookeeper"):
        keeper = ElementTree.parse(ROOT / "docker/clickhouse/config.d/keeper.xml")
        port = keeper.findtext("keeper_server/tcp_port") if name == "keeper" else keeper.findtext("zookeeper/node/port")
        expect(port == "9181", f"keeper.xml: {name} is not on port 9181")
    users = ElementTree.parse(ROOT / "docker/clickhouse/users.d/users.xml").find("users")
    for user in users:
        password = user.find("password")
        if user.get("remove") is None:
            expect(password is not None and password.get("from_env"), f"users.xml: {user.tag}'s password is not from the environment")
            expect(password is not None and password.get("from_env") in COMPOSE.read_text(), f"users.xml: {password.get('from_env')} is not given")
    policy = json.loads((ROOT / "docker/minio/chpipe-policy.json").read_text())
    for statement in policy["Statement"]:
        if "s3:DeleteObject" in statement["Action"]:
            expect(not any("bronze" in resource for resource in statement["Resource"]), "the pipeline may delete Bronze")


def check_dockerfile(stages: dict[str, str]) -> None:
    text = (ROOT / "docker/Dockerfile").read_text()
    for name, base in stages.items():
        expect(base in stages or base == "scratch" or pinned(base), f"Dockerfile: {name} starts from {base}, which is not pinned")
    for part in re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]:
        name = part.split()[2]
        if name in {"build", "project"}:
            continue
        users = re.findall(r"^USER\s+(\S+)", part, re.MULTILINE)
        expect(users and users[-1] not in {"root", "0"}, f"Dockerfile: {name} runs as root")
        expect("HEALTHCHECK" in part, f"Dockerfile: {name} has no health check")
        if "--from=project" in part:
            # docs/operations.md runs its commands by `docker compose exec`, from whatever folder the image starts in.
            for variable in ("DBT_PROJECT_DIR", "DBT_PROFILES_DIR", "DBT_TARGET"):
                expect(f"{variable}=" in part, f"Dockerfile: {name} has the project, and no {variable}")
    ignore = (ROOT / "docker/Dockerfile.dockerignore").read_text().splitlines()
    kept = {line[1:] for line in ignore if line.startswith("!")}
    # What the build reads without a COPY that names it.
    for source in ("Cargo.toml", "Cargo.lock", ".cargo", "src", "ddl"):
        expect(source in kept, f"Dockerfile.dockerignore leaves out {source}")
    for line in re.findall(r"^COPY (?!--from)(?:--\S+ )?(.+)$", text, re.MULTILINE):
        for source in line.split()[:-1]:
            if source == ".":
                continue
            expect((ROOT / source).exists() or source == "ddl", f"Dockerfile: copies {source}, which is missing")
            expect(source.split("/")[0] in kept, f"Dockerfile.dockerignore leaves out {source}")


def main() -> int:
    text = COMPOSE.read_text()
    compose = yaml.safe_load(text)
    root = yaml.safe_load((ROOT / "compose.yaml").read_text())
    expect(root["include"][0]["path"] == "docker/compose.yml", "compose.yaml does not include docker/compose.yml")
    expect(root["name"] == compose["name"], "compose.yaml and docker/compose.yml have different names")
    schema = subprocess.run(
        [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", COMPOSE, ROOT / "compose.yaml"],
        capture_output=True,
        text=True,
    )
    expect(schema.returncode == 0, schema.stdout + schema.stderr)
    stages = targets_of_dockerfile()
    check_variables(text)
    for name, service in compose["services"].items():
        check_service(name, service, compose, stages)
    check_references(compose)
    check_configurations()
    check_dockerfile(stages)
    for wanted in ("minio", "clickhouse", "airflow-apiserver", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer", "prometheus", "grafana", "superset"):
        expect(wanted in compose["services"], f"there is no service {wanted}")
    for volume in compose["volumes"]:
        expect(any(f"{volume}:" in str(service.get("volumes", "")) for service in compose["services"].values()), f"nothing uses the volume {volume}")
    for problem in failed:
        print(problem, file=sys.stderr)
    print(f"{len(compose['services'])} services, {len(failed)} problems")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
