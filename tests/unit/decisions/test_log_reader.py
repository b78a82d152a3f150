# SPDX-License-Identifier: Apache-2.0

"""Decisions in logs of every form."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from attachguard.decisions import log_reader
from tests.unit.decisions import lines

MESSAGE = lines.line()


def read(text: str | bytes, word: str = '') -> list[dict[str, Any]]:
    data = text if isinstance(text, bytes) else text.encode()
    return list(log_reader.read(io.BytesIO(data), word))


@pytest.mark.parametrize(
    'form',
    [
        MESSAGE,
        f'{MESSAGE}\n',
        f'{MESSAGE} [and more]',
        f'2026-01-02T03:04:05Z stderr F {MESSAGE}',
        json.dumps({'__REALTIME_TIMESTAMP': '1', 'MESSAGE': MESSAGE}),
        json.dumps(
            {'_PID': '1', 'MESSAGE': list(b'\x1b[0m' + MESSAGE.encode())},
            separators=(',', ':'),
        ),
        json.dumps({'message': MESSAGE, 'levelname': 'WARNING'}),
        json.dumps({'log': f'{MESSAGE}\n', 'stream': 'stderr'}),
    ],
    ids=[
        'file',
        'line',
        'suffix',
        'containerd',
        'journald',
        'journald bytes',
        'oslo.log JSON',
        'docker',
    ],
)
def test_a_decision_is_read(form: str) -> None:
    assert read(form) == [lines.decision()]


@pytest.mark.parametrize(
    'text',
    [
        '',
        'attachguard loaded: enforce=false\n',
        'attachguard decision\n',
        'attachguard decision {"verdict": "refu\n',
        'attachguard decision ["verdict"]\n',
        'attachguard decision {"reason": "policy"}\n',
        'attachguard decision ' + '[' * 100_000 + '\n',
        '{"MESSAGE": "attachguard decision {}"\n',
        '{"MESSAGE": [1, 2, 300, "attachguard decision "]}\n',
        b'\xff\xfe attachguard decision \xff\n',
    ],
)
def test_other_lines_are_not(text: str | bytes) -> None:
    assert read(text) == []


def test_a_line_of_any_length_takes_bounded_memory() -> None:
    class Endless(io.BytesIO):
        longest = 0

        def readline(self, size: int | None = -1) -> bytes:
            data = super().readline(size)
            self.longest = max(self.longest, len(data))
            return data

    file = Endless(b'x' * 10**7 + b'\n' + MESSAGE.encode())
    assert list(log_reader.read(file)) == [lines.decision()]
    assert file.longest <= 2**17


def test_only_lines_with_a_word_are_parsed() -> None:
    text = '\n'.join([MESSAGE, lines.line(verdict='allowed', reason='policy')])
    assert len(read(text)) == 2
    assert read(text, 'refused') == [lines.decision()]


def test_a_text_can_be_printed() -> None:
    decision = {'a': 'x\x1b[0m\ny', 'b': 1}
    assert log_reader.text(decision, 'a') == 'x?[0m?y'
    assert log_reader.text(decision, 'b') == ''
    assert log_reader.text(decision, 'c') == ''
