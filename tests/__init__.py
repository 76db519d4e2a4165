"""Tests of sts_trio. What they compile is kept: every process that they start would else compile the house anew."""

import os
import sys

sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
