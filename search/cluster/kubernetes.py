"""A Job of Kubernetes whose pods are workers of one search; the database's URL comes from a Secret.

A pod that is evicted is told to finish its trial, then to stop, and another takes its place. Bad input ends the Job at
once: every other pod would find it too.
"""

import re
from collections.abc import Sequence
from typing import Any

from search.cluster.jobs import Jobs
from search.config.nested import digest
from search.options.values import STOP_S
from search.storage.hide_url import STORAGE

_FOLDER = "/flipsearch/runs"  # as in the Dockerfile and docker-compose.yml, like the user
_USER = 10001
_BAD_INPUT = 2
_UNITS = {"M": "Mi", "G": "Gi", "T": "Ti"}
_LONGEST_NAME = 40  # of 63: `flipsearch-` stands before it, and of a pod its index and five letters after it


def manifest(
    jobs: Jobs, *, image: str, secret: str, volume_claim: str | None, apart: Sequence[str] = ()
) -> dict[str, Any]:
    """The Job, as batch/v1 has it.

    Args:
        jobs: What is asked for.
        image: That pods run; its entry point is the Dockerfile's.
        secret: The Secret with the database's URL at the key FLIPSEARCH_STORAGE.
        volume_claim: What keeps runs and experiments; None is the pod's own disk, gone with it.
        apart: What tells the Job from others for which `jobs.study` is the same.
    """
    environment: list[dict[str, Any]] = [
        {"name": STORAGE, "valueFrom": {"secretKeyRef": {"name": secret, "key": STORAGE}}},
        {"name": "FLIPSEARCH_EXPORT", "value": f"{_FOLDER}/experiment"},
    ]
    container: dict[str, Any] = {
        "name": "worker",
        "image": image,
        "args": [*map(_literal, jobs.words)],
        "env": environment,
        "resources": _resources(jobs),
        # Ctrl-C lets the trial finish; SIGTERM, which comes once this has ended, stops it.
        "lifecycle": {
            "preStop": {"exec": {"command": ["sh", "-c", f"kill -INT 1 && sleep {jobs.drain_s - STOP_S}"]}},
        },
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": jobs.drain_s,
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": _USER, "fsGroup": _USER},
        "containers": [container],
    }
    if volume_claim is not None:
        container["volumeMounts"] = [{"name": "runs", "mountPath": _FOLDER}]
        pod["volumes"] = [{"name": "runs", "persistentVolumeClaim": {"claimName": volume_claim}}]
    instance = _label(jobs.study, apart)
    labels = {"app.kubernetes.io/name": "flipsearch", "app.kubernetes.io/instance": instance}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"flipsearch-{instance}", "labels": labels},
        "spec": {
            "completionMode": "Indexed",
            "completions": jobs.n_jobs,
            "parallelism": jobs.n_jobs,
            "backoffLimit": 3 * jobs.n_jobs,
            "podFailurePolicy": {
                "rules": [
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                    {
                        "action": "FailJob",
                        "onExitCodes": {"containerName": "worker", "operator": "In", "values": [_BAD_INPUT]},
                    },
                ]
            },
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def as_yaml(tree: dict[str, Any]) -> str:
    """The manifest as `kubectl apply` takes it."""
    import yaml  # heavy for usage errors

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    text: str = yaml.dump(tree, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


def _literal(word: str) -> str:
    """A word of the command line; Kubernetes would put a variable's value where it reads `$(NAME)`."""
    return word.replace("$", "$$")


def _label(study: str, apart: Sequence[str]) -> str:
    """What names of objects take of a study's name, and the first digits of a hash where that leaves anything out."""
    plain = re.sub(r"[^a-z0-9]+", "-", study.lower()).strip("-")
    if plain == study and len(plain) <= _LONGEST_NAME and not apart:
        return plain
    return f"{plain[: _LONGEST_NAME - 9]}-{digest([study, *apart])[:8]}"


def _resources(jobs: Jobs) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    if jobs.memory is not None:
        limits["memory"] = jobs.memory[:-1] + _UNITS[jobs.memory[-1]]
    if jobs.gpus is not None:
        limits["nvidia.com/gpu"] = jobs.gpus  # as a text: quantities are
    requests = {**limits, **({} if jobs.cpus is None else {"cpu": str(jobs.cpus)})}
    return {name: values for name, values in (("requests", requests), ("limits", limits)) if values}
