"""`python -m counterpoint` is the command `counterpoint`."""

import sys

from counterpoint.cli import main

sys.exit(main())
