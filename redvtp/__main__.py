"""``python -m redvtp``: see redvtp.cli."""

import sys

from redvtp.cli import main

sys.exit(main())
