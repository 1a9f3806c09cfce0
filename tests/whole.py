"""Tests of which the suite runs a sample; `.ci/run` runs all, in each file that imports this."""

import os

import pytest

IS_WHOLE = bool(os.environ.get("FLIPSEARCH_TEST_ALL"))

whole = pytest.mark.skipif(not IS_WHOLE, reason="part of the whole: FLIPSEARCH_TEST_ALL=1 runs it")
