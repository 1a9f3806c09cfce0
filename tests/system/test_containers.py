"""The compose file, the image and their entry point, without a Docker engine.

The same topology runs with processes in tests/system/test_topology.py.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.helpers.compose_file import COMPOSE, ROOT, MissingVariable, interpolated, load_compose

VARIABLES = {
    "FLIPSEARCH_DATABASE_PASSWORD_FILE": "secrets/database",
    "FLIPSEARCH_READER_PASSWORD_FILE": "secrets/reader",
    "FLIPSEARCH_TASK": "gb1_three_vs_rest",
    "FLIPSEARCH_MODEL": "cnn",
}
ENTRYPOINT = ROOT / "docker-entrypoint.sh"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def services():
    return load_compose(VARIABLES)["services"]


def check_schema(path):
    """By the compose specification's own schema."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_file_follows_the_compose_schema(tmp_path):
    done = check_schema(COMPOSE)
    assert done.returncode == 0, done.stdout + done.stderr
    broken = tmp_path / "docker-compose.yml"
    broken.write_text(COMPOSE.read_text(encoding="utf-8").replace("capabilities:", "capabilitys:"), encoding="utf-8")
    assert check_schema(broken).returncode == 1


def test_it_has_the_services_of_a_fleet(services):
    assert list(services) == ["db", "init", "worker", "dashboard"]
    assert services["init"]["depends_on"] == {"db": {"condition": "service_healthy"}}
    for name in ("worker", "dashboard"):
        assert services[name]["depends_on"] == {"init": {"condition": "service_completed_successfully"}}
    # Neither a name nor a port keeps a second worker from starting.
    assert not {"container_name", "ports"} & set(services["worker"])
    (device,) = services["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}


def test_only_the_dashboard_is_reached_and_only_from_this_machine(services):
    assert {name for name, service in services.items() if "ports" in service} == {"dashboard"}
    assert services["dashboard"]["ports"] == ["127.0.0.1:8080:8080"]


def test_the_dashboard_can_change_nothing(services):
    dashboard = services["dashboard"]
    assert "--writable" not in dashboard["command"]
    assert dashboard["environment"]["FLIPSEARCH_STORAGE"].startswith("postgresql+psycopg://flipsearch_reader@")
    assert "--reader=flipsearch_reader" in services["init"]["command"]
    assert dashboard["secrets"] == ["reader_password"]
    assert dashboard["volumes"] == ["runs:/flipsearch/runs:ro"]
    assert dashboard["read_only"] is True


@pytest.mark.parametrize("missing", VARIABLES)
def test_what_has_no_default_is_asked_for(missing):
    given = {name: value for name, value in VARIABLES.items() if name != missing}
    with pytest.raises(MissingVariable, match=f"{missing}: (put|name) .* .env"):
        load_compose(given)


def test_passwords_stand_in_secret_files_alone(services):
    tree = load_compose(VARIABLES)
    assert tree["secrets"] == {
        "database_password": {"file": "secrets/database"},
        "reader_password": {"file": "secrets/reader"},
    }
    for service in services.values():
        for name, value in service["environment"].items():
            assert "PASSWORD" not in name or value.startswith("/run/secrets/")
            assert not re.search(r"://[^/@]*:[^/@]*@", value), "a URL with a password"
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"/.env", "/secrets/"} <= set(ignored)


def test_the_example_names_every_variable_and_gives_no_password():
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    given = dict(line.split("=", 1) for line in example.splitlines() if line and not line.startswith("#"))
    used = set(re.findall(r"\$\{(\w+)", COMPOSE.read_text(encoding="utf-8")))
    assert set(given) == used
    assert {name for name, value in given.items() if not value} == {
        "FLIPSEARCH_DATABASE_PASSWORD_FILE",
        "FLIPSEARCH_READER_PASSWORD_FILE",
    }
    with pytest.raises(MissingVariable, match="PASSWORD_FILE"):
        interpolated(COMPOSE.read_text(encoding="utf-8"), given)


def test_the_services_commands_are_ours(services):
    for name in ("init", "worker", "dashboard"):
        words = [word.partition("=")[0] for word in services[name]["command"]]
        command = [words[0]] if not words[0].startswith("-") else []
        called = [sys.executable, str(ROOT / "run_study.py"), *command, "--help"]
        shown = subprocess.run(called, check=True, capture_output=True, text=True).stdout
        assert {word for word in words if word.startswith("--") and word not in shown} == set()


def test_the_image_runs_as_an_ordinary_user_on_a_python_that_we_support():
    steps = [line.split(maxsplit=1) for line in DOCKERFILE.splitlines() if re.match(r"[A-Z]+ ", line)]
    base = next(rest for step, rest in steps if step == "FROM")
    assert re.fullmatch(r"python:3\.1[1-9]-slim-\w+", base)
    users = [rest for step, rest in steps if step == "USER"]
    assert users == ["flipsearch"]
    assert steps.index(["USER", "flipsearch"]) < steps.index(["ENTRYPOINT", '["/flipsearch/docker-entrypoint.sh"]'])
    assert "--constraint constraints.txt" in DOCKERFILE
    assert not re.search(r"PASSWORD|SECRET|TOKEN", DOCKERFILE)
    assert "ADD" not in {step for step, _ in steps}


def test_the_image_holds_the_checkout_and_nothing_else():
    copied = {word for line in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.M) for word in line.split()}
    assert {path for path in copied if not (ROOT / path).exists()} == set()
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied
    packages = {"datasets", "models", "search"}
    assert packages <= copied
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["readme"] in copied, "pip reads it"


def start_entrypoint(folder, *, environment, arguments=()):
    """The entry point of an image whose run_study.py prints what it was given and then sleeps."""
    program = folder / "image"
    if not program.exists():
        program.mkdir()
        shutil.copy(ENTRYPOINT, program)
        (program / "run_study.py").write_text(
            "import os, sys, time\n"
            "passwords = os.environ.get('PGPASSFILE')\n"
            "print(sys.argv[1:], os.environ.get('CUDA_VISIBLE_DEVICES'), passwords, flush=True)\n"
            "time.sleep(float(os.environ.get('SLEEP', '0')))\n"
        )
    path = f"{folder / 'bin'}:{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    return subprocess.Popen(
        ["sh", str(program / "docker-entrypoint.sh"), *arguments],
        env={**os.environ, "PATH": path, "TMPDIR": str(folder), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("password", ["simple", r"a:b\c: d'e$(f)`g`"])
def test_the_entry_point_hands_the_password_over_in_a_closed_file(tmp_path, password):
    secret = tmp_path / "secret"
    secret.write_text(password + "\n")
    process = start_entrypoint(tmp_path, environment={"FLIPSEARCH_PASSWORD_FILE": str(secret)}, arguments=["a", "b c"])
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    assert out.startswith("['a', 'b c'] ")
    passwords = out.split()[-1]
    assert os.stat(passwords).st_mode & 0o777 == 0o600
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    assert Path(passwords).read_text() == f"*:*:*:*:{escaped}\n"


@pytest.mark.parametrize("content", [None, ""])
def test_a_password_file_that_is_missing_or_empty_is_refused(tmp_path, content):
    secret = tmp_path / "secret"
    if content is not None:
        secret.write_text(content)
    process = start_entrypoint(tmp_path, environment={"FLIPSEARCH_PASSWORD_FILE": str(secret)})
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (2, "")
    assert re.fullmatch(r"error: the password file \S+ (cannot be read: .*|is empty)\.\n", err)


def test_each_worker_takes_a_gpu_of_its_own_and_gives_it_back(tmp_path):
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho GPU-aaaa\necho GPU-bbbb\n")
    tool.chmod(0o755)
    environment = {"FLIPSEARCH_GPU_LOCKS": str(tmp_path / "locks"), "SLEEP": "600", "CUDA_VISIBLE_DEVICES": ""}
    workers = [start_entrypoint(tmp_path, environment=environment) for _ in range(2)]
    try:
        taken = {worker.stdout.readline().split()[1] for worker in workers}
        assert taken == {"GPU-aaaa", "GPU-bbbb"}
        third = start_entrypoint(tmp_path, environment=environment)
        out, err = third.communicate(timeout=300)
        assert (third.returncode, out) == (2, "")
        assert "every GPU of this machine has its worker" in err
        workers[0].kill()
        freed = workers.pop(0)
        freed.communicate()
        again = start_entrypoint(tmp_path, environment={**environment, "SLEEP": "0"})
        assert again.communicate(timeout=300)[0].split()[1] in taken
        assert again.returncode == 0
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
