# SPDX-License-Identifier: Apache-2.0

"""What the commands that read logged decisions have in common."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from collections.abc import Sequence
import gzip
import io
import pathlib
import sys
from typing import BinaryIO
from typing import cast


def add_logs(parser: argparse.ArgumentParser) -> None:
    """Add the files to read.

    :param parser: of the command
    """
    parser.add_argument(
        'logs',
        metavar='LOG',
        nargs='*',
        help='A log of cinder-api, also compressed with gzip, or "-" for the '
        'standard input (the default). The output of "journalctl -o json" and '
        'JSON of other loggers can be read, too.',
    )


def opened(names: Sequence[str]) -> Iterator[BinaryIO]:
    """Open each log, one after the other.

    :param names: of the files
    :raises OSError: if one cannot be opened
    """
    for name in names or ('-',):
        if name == '-':
            yield sys.stdin.buffer
        elif pathlib.Path(name).suffix == '.gz':
            with gzip.open(name) as file:
                yield cast('BinaryIO', io.BufferedReader(file))
        else:
            with open(name, 'rb') as file:
                yield file
