"""``python -m odyssey_run``: the command ``odyssey-run``."""

import sys

from odyssey_run.cli import main

sys.exit(main())
