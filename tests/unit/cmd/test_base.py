# SPDX-License-Identifier: Apache-2.0

"""Lists for people, for shell loops and for spreadsheets."""

from __future__ import annotations

import io
from typing import Any
import uuid

import pytest

from attachguard.cmd import base

SCRIPT = (
    '# A comment, which says what the commands below risk.\n'
    f'openstack server stop {uuid.uuid4()} &&\n'
    f"timeout 600 sh -c 'until {'openstack server show ' * 9}; do :; done'"
)


def printed(**values: Any) -> list[str]:
    stream = io.StringIO()
    base.print_item(
        stream, 'title', {k.replace('_', ' '): v for k, v in values.items()}
    )
    return stream.getvalue().splitlines()


def test_an_item_fits_a_terminal_and_its_commands_are_whole() -> None:
    lines = printed(
        Text='a word ' * 100,
        Volume=str(uuid.uuid4()),
        Volume_name='x' * 255,
        How_it_comes_about='-' * 200,
        What_to_do=SCRIPT,
    )
    *shown, label = lines[: lines.index(SCRIPT.splitlines()[0])]
    assert max(map(len, shown)) == 80
    assert label == '   What to do:'
    assert '\n'.join(lines[-4:]) == f'{SCRIPT}\n'


def test_a_name_is_beside_what_it_names() -> None:
    assert printed(
        Volume='the-id', Volume_name='db', Server='s', Server_name=None
    ) == [
        'title',
        '   Volume        the-id (db)',
        '   Server        s',
        '',
    ]


def test_what_is_empty_is_left_out() -> None:
    assert printed(Volume=None, Host='', Volume_name='db') == ['title', '']


@pytest.mark.parametrize('start', ['=', '+', '-', '@', '\t', '\r'])
def test_what_a_spreadsheet_would_run_is_quoted(start: str) -> None:
    assert base._no_formula(f'{start}1+1') == f"'{start}1+1"
    assert base._no_formula(f'1{start}1') == f'1{start}1'
    assert base._no_formula(-1) == -1


@pytest.mark.parametrize(
    ('cell', 'line'),
    [
        ('# only a comment\n# of two lines', ''),
        ('# why\na &&\nb', 'a && b'),
        ('one\rline', 'one line'),
        ('one\u2028line', 'one line'),
        ('one line', 'one line'),
        (None, None),
    ],
)
def test_a_cell_of_a_shell_loop_is_one_line(
    cell: object, line: object
) -> None:
    assert base._one_line(cell) == line
