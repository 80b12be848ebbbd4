"""What takes a build folder's place in the tests of benchmarks."""

from __future__ import annotations

import json
import os
from pathlib import Path


def make_small_build(folder: Path, limits: dict) -> None:
    """The real server, and the machine's limits made up."""
    (folder / "ounce-server").symlink_to(os.environ["OUNCE_SERVER_BINARY"])
    program = folder / "machine_limits"
    program.write_text(f"#!/bin/sh\necho '{json.dumps(limits)}'\n")
    program.chmod(0o755)
