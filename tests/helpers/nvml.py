"""Stands in for the GPUs of a machine, below the functions of `pynvml` that ask for them: there are none here."""

from dataclasses import dataclass
from types import SimpleNamespace

import pynvml

MIB = 1 << 20


@dataclass(frozen=True)
class FakeGpu:
    """A GPU or, of one, a slice; None is what the driver does not say. A list of slices has None where none is."""

    uuid: str = "GPU-aaaa-1"
    name: str = "H100"
    percent: int | None = None
    used_mib: int | None = None
    total_mib: int | None = None
    slices: tuple["FakeGpu | None", ...] | None = None


def said(value, error=pynvml.NVMLError_NotSupported):
    """The value; as NVML does, the error where there is none."""
    if value is None:
        raise error()
    return value


def memory_of(gpu):
    return SimpleNamespace(used=said(gpu.used_mib) * MIB, total=said(gpu.total_mib) * MIB)


def install(monkeypatch, *gpus, driver="580.95.05", error=None):
    """Let NVML report these GPUs, or fail with `error` when it is begun."""

    def begin():
        if error is not None:
            raise error()

    answers = {
        "nvmlInit": begin,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: driver,
        "nvmlDeviceGetCount": lambda: len(gpus),
        "nvmlDeviceGetHandleByIndex": lambda index: gpus[index],
        "nvmlDeviceGetName": lambda gpu: gpu.name,
        "nvmlDeviceGetUUID": lambda gpu: gpu.uuid,
        "nvmlDeviceGetUtilizationRates": lambda gpu: SimpleNamespace(gpu=said(gpu.percent)),
        "nvmlDeviceGetMemoryInfo": memory_of,
        "nvmlDeviceGetMaxMigDeviceCount": lambda gpu: len(said(gpu.slices)),
        "nvmlDeviceGetMigDeviceHandleByIndex": lambda gpu, i: said(gpu.slices[i], pynvml.NVMLError_NotFound),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
