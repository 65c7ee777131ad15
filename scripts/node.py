#!/usr/bin/env python3
"""Starts the node, or the pipeline of nodes, that this file is named after where it is installed."""

import sys
from pathlib import Path

from edge_vision.ros.main import main

sys.exit(main(Path(sys.argv[0]).stem))
