"""The command line: parse, call, print; a file for each noun.

Nothing heavy is imported before a command runs, so that ``--help`` answers at once.
"""

from resnetlab.cli.program import main

__all__ = ["main"]
