# SPDX-License-Identifier: Apache-2.0

"""``attachguard learn`` and ``attachguard policy test``."""

from __future__ import annotations

import gzip
import html.parser
import io
import json
import pathlib
from typing import Any

import pytest
import yaml

from attachguard import cmd
from tests.unit.decisions import lines

HOSTILE = '<script>alert(1)</script>'


@pytest.fixture
def log(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / 'cinder-api.log'
    text = [
        lines.line(),
        'something else',
        lines.line(enforced=True),
        lines.line(user_agent=HOSTILE),
        lines.line(verdict='allowed', checks={'cinder:same_volume': True}),
    ]
    path.write_text('\n'.join(text))
    return path


def run(
    capsys: pytest.CaptureFixture[str], *arguments: Any
) -> tuple[int, str, str]:
    code = cmd.main([*map(str, arguments)])
    return code, *capsys.readouterr()


def test_refusals_are_listed(
    log: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _err = run(capsys, 'learn', '-f', 'json', log)
    assert code == 0
    first, second = json.loads(out)
    assert first == {
        'Rule': lines.RULE,
        'Reason': 'server-has-volume',
        'Project': 'p1',
        'User': 'u1',
        'Client': 'client/1',
        'Requests': 2,
        'Enforced': 1,
        'First': '2026-01-02T03:04:05.000+00:00',
        'Last': '2026-01-02T03:04:05.000+00:00',
    }
    assert second['Client'] == HOSTILE


def test_several_logs_are_one(
    log: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packed = log.with_suffix('.log.1.gz')
    packed.write_bytes(gzip.compress(log.read_bytes()))

    class Stdin:
        buffer = io.BytesIO(log.read_bytes())

    monkeypatch.setattr('sys.stdin', Stdin)
    _code, out, _err = run(capsys, 'learn', '-f', 'json', log, packed, '-')
    assert [row['Requests'] for row in json.loads(out)] == [6, 3]


def test_policy_lines_are_proposed_to_a_file(
    log: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rules = tmp_path / 'rules.yaml'
    rules.write_text(json.dumps({lines.RULE: 'role:operator'}))
    options = ['--propose', '--policy-file', rules]
    code, out, _err = run(capsys, 'learn', log, *options)
    assert code == 0
    new = 'project_id:p1 and user_id:u1 and cinder:same_volume'
    assert yaml.safe_load(out) == {lines.RULE: f'role:operator or {new}'}
    assert '# WARNING' in out
    # The proposed file changes what it was proposed for, and nothing else.
    rules.write_text(out)
    code, out, err = run(capsys, 'policy', 'test', '-f', 'json', rules, log)
    assert code == 3
    assert json.loads(out) == [
        {
            'Rule': lines.RULE,
            'Project': 'p1',
            'User': 'u1',
            'Before': 'refused',
            'After': 'allowed',
            'Not in the log': '',
            'Requests': 3,
        }
    ]
    assert '1 decisions would be the same' in err


def test_what_cannot_be_evaluated_is_listed(
    log: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rules = tmp_path / 'rules.yaml'
    rules.write_text(json.dumps({lines.RULE: 'cinder:idle'}))
    code, out, _err = run(capsys, 'policy', 'test', '-f', 'json', rules, log)
    assert code == 3
    assert {
        (row['Before'], row['After'], row['Not in the log'], row['Requests'])
        for row in json.loads(out)
    } == {
        ('refused', 'undecided', 'cinder:idle', 3),
        ('allowed', 'undecided', 'cinder:idle', 1),
    }


def test_a_file_that_changes_nothing(
    log: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rules = tmp_path / 'rules.yaml'
    log.write_text(lines.line())
    rules.write_text('{}')
    code, out, err = run(capsys, 'policy', 'test', '-f', 'json', rules, log)
    assert (code, json.loads(out)) == (0, [])
    assert '1 decisions' in err


class Page(html.parser.HTMLParser):
    """The text of a page, and its elements."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ''
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_shows_both(
    log: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / 'page.html'
    code, _out, _err = run(capsys, 'learn', log, '--html', path)
    assert code == 0
    page = Page(path.read_text())
    assert '3 refused requests' in page.text
    assert HOSTILE in page.text
    assert 'script' not in page.tags
    assert 'project_id:p1 and user_id:u1' in page.text
    assert 'WARNING' in page.text


@pytest.mark.parametrize(
    'arguments',
    [
        ['learn', 'nowhere.log'],
        ['learn', '/dev/null', '--policy-file', 'nowhere.yaml'],
        ['learn', '/dev/null', '--html', '/nowhere/page.html'],
        ['policy', 'test', 'nowhere.yaml'],
        ['policy', 'test', '/dev/null', 'nowhere.log'],
    ],
)
def test_what_cannot_be_opened_is_an_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (1, '')
    assert err.startswith('error: ')
