"""`python -m zen_mlmd`: the command line."""

from __future__ import annotations

import sys

from zen_mlmd.cli.main import main

sys.exit(main())
