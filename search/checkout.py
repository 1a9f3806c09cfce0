"""Where this checkout stands: the folder of run_study.py, and the config tree in it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STUDIES = ROOT / "studies"
"""The Hydra config tree."""
