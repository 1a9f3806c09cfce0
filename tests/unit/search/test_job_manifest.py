"""The Job of Kubernetes: valid by its own schema, and its words are what the pods run."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from search.cluster.jobs import Jobs
from search.cluster.kubernetes import as_yaml, manifest
from search.machine.foreign_files import load_plain_yaml
from tests.helpers.processes import ROOT

JOBS = Jobs(study="gb1_three_vs_rest-cnn", words=["--task", "gb1", "a=b"], n_jobs=3, gpus="1", cpus=4, memory="16G")
VERSION = "1.31"
"""The first in which podFailurePolicy is stable."""


def made(jobs: Jobs = JOBS, **given: Any) -> dict[str, Any]:
    text = as_yaml(manifest(jobs, **{"image": "flipsearch:1", "secret": "flipsearch", "volume_claim": "runs", **given}))
    tree: dict[str, Any] = load_plain_yaml(text)
    return tree


def container(tree: dict[str, Any]) -> dict[str, Any]:
    (found,) = tree["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("claim", [None, "runs"])
@pytest.mark.parametrize("jobs", [JOBS, Jobs(study="s", words=[])])
def test_it_is_valid(jobs: Jobs, claim: str | None) -> None:
    tree = made(jobs, volume_claim=claim)
    assert kubernetes_validate.validate(tree, VERSION, strict=True)
    tree["spec"]["paralelism"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(tree, VERSION, strict=True)


def test_what_it_asks_for() -> None:
    spec = made()["spec"]
    assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (3, 3, "Indexed")
    pod = spec["template"]["spec"]
    assert (pod["restartPolicy"], pod["terminationGracePeriodSeconds"]) == ("Never", 90)
    worker = container(made())
    assert worker["resources"]["limits"] == {"memory": "16Gi", "nvidia.com/gpu": "1"}
    assert worker["resources"]["requests"]["cpu"] == "4"
    assert worker["env"][0]["valueFrom"]["secretKeyRef"] == {"name": "flipsearch", "key": "FLIPSEARCH_STORAGE"}
    assert worker["lifecycle"]["preStop"]["exec"]["command"] == ["sh", "-c", "kill -INT 1 && sleep 60"]
    assert pod["volumes"] == [{"name": "runs", "persistentVolumeClaim": {"claimName": "runs"}}]


def test_it_fits_the_image() -> None:
    """Its user, its folder, and a program that is process 1: Ctrl-C reaches it."""
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    tree = made()
    user = tree["spec"]["template"]["spec"]["securityContext"]["runAsUser"]
    assert f"useradd --uid {user} " in dockerfile
    (mount,) = container(tree)["volumeMounts"]
    assert re.search(rf"install .* {mount['mountPath']}$", dockerfile, re.M)
    assert (ROOT / "docker-entrypoint.sh").read_text(encoding="utf-8").splitlines()[-1].startswith("exec python ")


WORDS = [
    "$(FLIPSEARCH_STORAGE)",
    "$$(X)",
    "a$b",
    "no",
    "1",
    "null",
    "'",
    "a: b",
    "ü",
    "a\nb",
    "~x",
    "{a: 1}",
    "- x",
    "",
]


def test_words_are_texts_in_which_kubernetes_replaces_nothing() -> None:
    found = container(made(Jobs(study="s", words=WORDS)))["args"]
    # Kubernetes reads two of its signs as one, and a variable only after a single one.
    assert [word.replace("$$", "$") for word in found] == WORDS
    assert all(re.fullmatch(r"([^$]|\$\$)*", word) for word in found)


@pytest.mark.parametrize("study", ["A.b+c-d", "x" * 100, "9", "a" * 39 + "-" * 9 + "b"])
def test_a_studys_name_becomes_one_that_kubernetes_takes(study: str) -> None:
    name = made(Jobs(study=study, words=[]))["metadata"]["name"]
    assert re.fullmatch(r"flipsearch-[a-z0-9]([a-z0-9-]*[a-z0-9])?", name)
    assert len(name) <= 52
    other = made(Jobs(study=study + "x", words=[]))["metadata"]["name"]
    assert name != other


def test_no_two_studies_share_a_name() -> None:
    studies = ("a-b", "a_b", "a.b", "A-b", "a--b")
    names = [made(Jobs(study=study, words=[]))["metadata"]["name"] for study in studies]
    assert names[0] == "flipsearch-a-b"
    assert len(set(names)) == len(studies)
    tree = made(Jobs(study="a-b", words=[]), apart=["--split", "random"])
    assert tree["metadata"]["name"] not in names
    assert tree["metadata"]["name"] == f"flipsearch-{tree['metadata']['labels']['app.kubernetes.io/instance']}"


def test_no_url_is_in_it(tmp_path: Path) -> None:
    assert "://" not in as_yaml(manifest(JOBS, image="flipsearch:1", secret="s", volume_claim=None))
