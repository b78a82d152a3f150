# SPDX-License-Identifier: Apache-2.0

"""The content of the page.

``tests/functional`` tests it in a browser.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import html.parser
import pathlib
import re
import stat
from typing import Any

import pytest

from attachguard.audit import classes
from attachguard.audit.report import content
from attachguard.audit.report import html as page
from tests.unit.audit import example

# Elements without an end tag.
_VOID = {'input', 'link', 'meta'}
# Elements that are separated from the next one.
_CELLS = {'dd', 'dt', 'td', 'th'}
PENDING = content.State.PENDING
HOSTILE = (
    '<script>window.pwned = 1</script>',
    '</script><script>window.pwned = 1</script>',
    '"><img src=x onerror="window.pwned = 1">',
    "'><svg onload='window.pwned = 1'>",
    '{{ 7 * 7 }}',
    '&lt;b&gt;',
)


class Page(html.parser.HTMLParser):
    """A parsed page.

    :ivar tags: each element, with its attributes
    :ivar text: its text, with single spaces
    """

    def __init__(self, report: content.Report, limit: int = page.LIMIT):
        super().__init__()
        self.source = page.render(report, limit)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self._text: list[str] = []
        self.headline = ''
        self.feed(self.source)
        self.close()
        assert self._open == []
        self.text = ' '.join(''.join(self._text).split())

    def handle_starttag(
        self, tag: str, attrs: list[tuple[str, str | None]]
    ) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag in _CELLS:
            self._text.append(' ')

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ['h1']:
            self.headline += data
        if self._open[-1:] not in (['script'], ['style']):
            self._text.append(data)

    def attributes(self, name: str) -> list[str | None]:
        return [attrs[name] for _, attrs in self.tags if name in attrs]


@pytest.mark.parametrize(
    ('items', 'error', 'headline'),
    [
        ([], None, 'Clean'),
        ([example.foreign_attachment()], None, 'Clean'),
        ([example.entry()], None, '1 finding'),
        ([example.entry()] * 1200, None, '1,200 findings'),
        ([example.entry(state=PENDING)], None, 'No findings yet'),
        ([example.unknown()], None, 'No findings'),
        ([], 'Nova is down', 'The audit failed'),
        ([example.entry()], '', 'The audit failed'),
    ],
)
def test_the_headline(
    items: list[example.Item], error: str | None, headline: str
) -> None:
    read = Page(example.report(*items, error=error))
    assert read.headline == headline
    assert ('Nova agree about' in read.text) == (headline == 'Clean')


def test_the_page_of_a_failed_audit_shows_the_error() -> None:
    text = Page(example.report(example.entry(), error='Nova is down')).text
    assert 'Nova is down' in text
    assert 'It is not complete' in text
    assert 'Found so far 1' in text

    text = Page(example.report(error='Nova is down', cloud='')).text
    assert 'The cloud may be inconsistent' in text
    assert 'Found' not in text
    assert 'Volume attachments of' not in text


def test_a_finding_is_shown_with_everything_known_about_it() -> None:
    entry = example.entry('volume-gone')
    text = Page(example.report(entry)).text
    kind = classes.CLASSES['volume-gone']
    for part in (
        entry.finding.volume_id,
        entry.finding.attachment_id,
        entry.finding.server_id,
        entry.finding.project_id,
        entry.finding.text,
        '2026-11-02 01:15 UTC',
        'First seen 2026-11-23 19:08 UTC, 3 times in a row',
        entry.script,
        kind.what,
        kind.how,
        kind.repair,
        'Runbook doc/source/reference/classes.rst#volume-gone',
        'Evidence: 2 calls',
        f'GET /servers/{entry.finding.server_id} 404 the server does not '
        'exist '
        f'2026-11-25T19:08:07Z {entry.finding.evidence[1].request_id}',
    ):
        assert part is not None
        assert part in text


def test_every_class_is_explained_once() -> None:
    for report in (example.report(), example.some()):
        text = Page(report).text
        for kind in classes.CLASSES.values():
            assert text.count(kind.what) == 1


def test_foreign_attachments_and_unknown_volumes_have_sections() -> None:
    text = Page(example.some()).text
    _, _, rest = text.partition('Unknown volumes 2 Cinder or Nova did not')
    unknown, _, foreign = rest.partition('Foreign attachments 4')
    assert unknown.count('Nova does not respond') == 2
    assert unknown.count('no response') == 2
    assert foreign.count('ironic_mountpoint') == 4
    assert 'pattern:host=*-zun' in foreign


def test_the_chart_has_a_bar_for_each_class() -> None:
    read = Page(
        example.report(
            *(example.entry('server-gone', n) for n in range(6)),
            *(example.entry('server-gone', n, state=PENDING) for n in (6, 7)),
            example.entry('duplicate'),
        )
    )
    assert read.attributes('data-class') == list(classes.CLASSES)
    bars = [
        attrs['width']
        for tag, attrs in read.tags
        if tag == 'rect' and '%' in (attrs['width'] or '')
    ]
    # Each has a track, a bar for found and a bar for pending.
    first = 3 * list(classes.CLASSES).index('server-gone')
    assert bars[first : first + 3] == ['100%', '75.00%', '25.00%']
    assert bars[3:6] == ['100%', '0.00%', '0.00%']
    assert '12.50%' in bars
    assert 'server-gone: 6 found, 2 pending.' in read.text


def test_the_page_loads_nothing_and_runs_only_its_own_script() -> None:
    read = Page(example.some())
    [policy] = [
        attrs['content'] or ''
        for _, attrs in read.tags
        if attrs.get('http-equiv') == 'Content-Security-Policy'
    ]
    assert policy.startswith("default-src 'none'; ")
    for tag in ('style', 'script'):
        [inline] = re.findall(f'<{tag}>(.*?)</{tag}>', read.source, re.DOTALL)
        digest = hashlib.sha256(inline.encode()).digest()
        expected = base64.b64encode(digest).decode()
        assert f"{tag}-src 'sha256-{expected}'" in policy
    assert 'unsafe' not in policy
    assert not read.attributes('src')
    assert not read.attributes('style')
    for link in read.attributes('href'):
        assert (link or '').startswith(('#', 'data:'))
    assert 'url(http' not in read.source
    assert '@import' not in read.source


@pytest.mark.parametrize('text', [*HOSTILE, 'x' * 100_000, '\ud800\x00\u202e'])
def test_a_text_of_the_apis_is_never_markup(
    text: str, tmp_path: pathlib.Path
) -> None:
    def report_of(text: str) -> content.Report:
        texts: dict[str, Any] = dict.fromkeys(example.TEXTS, text)
        return example.report(
            example.entry(**texts),
            example.foreign_attachment(pattern=text),
            cloud=text,
            region=text,
            projects={text: text},
        )

    plain = Page(report_of('plain'))
    report = report_of(text)
    read = Page(report)
    assert [tag for tag, _ in read.tags] == [tag for tag, _ in plain.tags]
    assert text.replace('\x00', '\ufffd') in read.text.replace(
        '\x00', '\ufffd'
    )
    path = tmp_path / 'page.html'
    page.write(report, path)
    path.read_text(encoding='utf-8')


def test_long_lists_are_cut_and_the_page_shows_it() -> None:
    entries = [example.entry('server-gone', n) for n in range(10)]
    unknown = [example.unknown(n) for n in range(5)]
    # The audit has counted more than it kept.
    report = example.report(
        *entries[:8],
        *unknown[:3],
        counts=example.counts(*entries, *unknown),
    )
    read = Page(report, limit=6)
    assert read.headline == '10 findings'
    lists = 'attachguard audit --all -f csv lists them'
    assert f'4 more are not on this page: {lists}' in read.text
    lists = 'attachguard audit --project PROJECT --html FILE'
    assert f'2 more are not on this page: {lists}' in read.text
    assert len(read.attributes('data-row')) == 6 + 3
    assert 'not on this page' not in Page(example.some()).text


def _folds(read: Page) -> list[tuple[str, bool]]:
    """The classes and pages of a page, and whether they are open."""
    return [
        (attrs.get('data-group') or 'page', 'open' in attrs)
        for tag, attrs in read.tags
        if tag == 'details' and attrs.get('class') in ('group', 'page')
    ]


def test_few_items_are_all_shown() -> None:
    items = [example.entry('server-gone', n) for n in range(page.PAGE - 2)]
    read = Page(example.report(*items, *map(example.unknown, range(2))))
    assert _folds(read) == [('server-gone', True), ('unknown', True)]


def test_many_are_folded_by_class_and_each_class_has_pages() -> None:
    number = 2 * page.PAGE + 1
    items = [example.entry('server-gone', n) for n in range(number)]
    read = Page(
        example.report(
            *items, example.entry('duplicate'), example.foreign_attachment()
        )
    )
    assert _folds(read) == [
        ('server-gone', False),
        ('page', False),
        ('page', False),
        ('duplicate', False),
        ('foreign', False),
    ]
    assert f'server-gone {number} Cinder has an attachment' in read.text
    assert f'{page.PAGE + 1}–{2 * page.PAGE} of {number}' in read.text
    assert f'{number}–{number} of {number}' in read.text
    assert len(read.attributes('data-row')) == number + 2


def test_names_are_beside_ids() -> None:
    entry = example.entry(volume_name='db', server_name='web', host='compute7')
    report = example.report(entry, projects={example.PROJECT: 'shop'})
    text = Page(report).text
    finding = entry.finding
    for part in (
        f'db {finding.volume_id}',
        f'web {finding.server_id} on compute7',
        f'shop {finding.project_id}',
    ):
        assert part in text


def test_confirmed_findings_come_first_and_the_oldest_of_them() -> None:
    entries = [
        example.entry('duplicate', 1, since='2026-01-01'),
        example.entry('server-gone', 2, since='2026-03-03'),
        example.entry('server-gone', 3, since='2026-01-01', state=PENDING),
        example.entry('server-gone', 4, since='2026-02-02'),
        example.entry('server-gone', 5, since=None),
    ]
    text = Page(example.report(*entries)).text
    places = [text.index(entry.finding.volume_id) for entry in entries]
    assert sorted(range(5), key=places.__getitem__) == [4, 3, 1, 2, 0]


@pytest.mark.parametrize(
    ('seconds', 'text'),
    [
        (0.2, 'in 0 s'),
        (59.6, 'in 1 min 0 s'),
        (112, 'in 1 min 52 s'),
        (7384, 'in 2 h 3 min'),
    ],
)
def test_the_duration_is_shown(seconds: float, text: str) -> None:
    finished = example.FINISHED
    started = finished - datetime.timedelta(seconds=seconds)
    assert text in Page(example.report(started=started)).text


def test_only_the_owner_and_group_can_read_the_page(
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / 'page.html'
    page.write(example.some(), path)
    assert path.read_text() == page.render(example.some())
    assert stat.S_IMODE(path.stat().st_mode) & 0o137 == 0


def test_a_full_page_with_four_calls_for_each_finding_has_10_mb() -> None:
    kinds = list(classes.CLASSES)
    report = example.report(
        *(
            example.entry(
                kinds[n % len(kinds)],
                n,
                evidence=example.entry(number=n).finding.evidence * 2,
            )
            for n in range(500)
        )
    )
    assert len(page.render(report)) * page.LIMIT / 500 < 10_000_000
