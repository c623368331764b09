"""The networks of ``cases.py`` and ``textbooks.py`` can be imported by their names."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
