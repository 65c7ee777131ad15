#!/usr/bin/env python3
"""The command `edge_vision`."""

import sys

# The folder of a script is on the path, and this file's name would hide the package.
sys.path[:] = [entry for entry in sys.path if entry != __file__.rpartition("/")[0]]

from edge_vision.cli.main import main  # noqa: E402

sys.exit(main())
