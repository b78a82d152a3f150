# SPDX-License-Identifier: Apache-2.0
"""The command line: the shell, and a module for each command."""

from attachguard.cmd.shell import main

__all__ = ['main']
