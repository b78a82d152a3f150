# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""The page says what the audit has found, and nothing that it has not.

How it looks and works in a browser is tested in ``tests/functional``.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import html.parser
import pathlib
import re
import stat

import pytest

from attachguard.audit import checks
from attachguard.audit.report import content
from attachguard.audit.report import html as page
from tests.unit.audit import example

# Elements that are not closed.
_VOID = {'input', 'link', 'meta'}
# Elements beside which the next one has a place of its own.
_CELLS = {'dd', 'dt', 'td', 'th'}
HOSTILE = (
    '<script>window.pwned = 1</script>',
    '</script><script>window.pwned = 1</script>',
    '"><img src=x onerror="window.pwned = 1">',
    "'><svg onload='window.pwned = 1'>",
    '{{ 7 * 7 }}',
    '&lt;b&gt;',
)


class Page(html.parser.HTMLParser):
    """What is on a page.

    :ivar tags: each element, with its attributes
    :ivar text: what is to be read, words one space apart
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

    def handle_startendtag(
        self, tag: str, attrs: list[tuple[str, str | None]]
    ) -> None:
        self.tags.append((tag, dict(attrs)))

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
    ('report', 'headline'),
    [
        pytest.param(example.report(), 'Clean', id='clean'),
        pytest.param(
            example.report(example.foreign()), 'Clean', id='foreign only'
        ),
        pytest.param(example.report(example.entry()), '1 finding', id='found'),
        pytest.param(
            example.report(*(example.entry(number=n) for n in range(1200))),
            '1,200 findings',
            id='many',
        ),
        pytest.param(
            example.report(example.entry(state=content.State.PENDING)),
            'No findings yet',
            id='pending',
        ),
        pytest.param(
            example.report(example.unknown()), 'No findings', id='unknown'
        ),
        pytest.param(
            example.report(error='Nova is down'),
            'The audit failed',
            id='failed',
        ),
        pytest.param(
            example.report(example.entry(), error=''),
            'The audit failed',
            id='failed with findings',
        ),
    ],
)
def test_the_headline(report: content.Report, headline: str) -> None:
    read = Page(report)
    assert read.headline == headline
    assert ('Nova agree about' in read.text) == (headline == 'Clean')


def test_an_audit_that_failed_says_why_and_what_it_is_worth() -> None:
    text = Page(example.report(example.entry(), error='Nova is down')).text
    assert 'Nova is down' in text
    assert 'What is not below may be there all the same' in text
    assert 'Found so far 1' in text

    text = Page(example.report(error='Nova is down', cloud='')).text
    assert 'So it is not known whether anything is wrong' in text
    assert 'Found' not in text
    assert 'Volume attachments of' not in text


def test_all_that_is_known_of_a_finding() -> None:
    entry = example.entry('volume-gone')
    text = Page(example.report(entry)).text
    kind = checks.CLASSES['volume-gone']
    for said in (
        entry.finding.volume_id,
        entry.finding.attachment_id,
        entry.finding.server_id,
        entry.finding.project_id,
        entry.finding.text,
        '2026-11-02 01:15',
        'First seen 2026-11-23 19:08, 3 times in a row',
        entry.command,
        kind.what,
        kind.how,
        kind.repair,
        'Evidence: 2 calls',
        f'GET /servers/{entry.finding.server_id} 404 there is no such server '
        f'2026-11-25T19:08:07+00:00 {entry.finding.evidence[1].request_id}',
    ):
        assert said is not None
        assert said in text


def test_every_class_is_explained_once() -> None:
    for report in (example.report(), example.some()):
        text = Page(report).text
        for kind in checks.CLASSES.values():
            assert text.count(kind.what) == 1


def test_what_is_foreign_or_unknown_has_a_place_of_its_own() -> None:
    text = Page(example.some()).text
    _, _, rest = text.partition('Not known 2 Cinder or Nova did not answer')
    unknown, _, foreign = rest.partition('Foreign attachments 4')
    assert unknown.count('Nova did not say anything about the server') == 2
    assert unknown.count('no answer') == 2
    assert foreign.count('ironic_mountpoint') == 4
    assert 'pattern:host=*-zun' in foreign


def test_the_chart_has_a_bar_for_each_class() -> None:
    pending = content.State.PENDING
    read = Page(
        example.report(
            *(example.entry('server-gone', n) for n in range(6)),
            *(example.entry('server-gone', n, state=pending) for n in (6, 7)),
            example.entry('duplicate'),
        )
    )
    assert read.attributes('data-class') == list(checks.CLASSES)
    bars = [
        attrs['width']
        for tag, attrs in read.tags
        if tag == 'rect' and '%' in (attrs['width'] or '')
    ]
    # Of each the track, what is found, what is pending.
    assert bars[:3] == ['100%', '75.00%', '25.00%']
    assert bars[3:6] == ['100%', '0.00%', '0.00%']
    assert '12.50%' in bars
    assert 'server-gone: 6 found, 2 pending.' in read.text


def test_nothing_is_loaded_and_nothing_else_runs() -> None:
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
def test_whatever_the_apis_say_is_text(
    text: str, tmp_path: pathlib.Path
) -> None:
    entry = example.entry(
        volume_id=text,
        attachment_id=text,
        server_id=text,
        project_id=text,
        text=text,
        since=text,
    )
    plain = Page(example.report(example.entry(), example.foreign()))
    report = example.report(
        entry,
        content.Foreign(text, example.foreign().attachment, text),
        cloud=text,
        region=text,
    )
    read = Page(report)
    assert [tag for tag, _ in read.tags] == [tag for tag, _ in plain.tags]
    assert text.replace('\x00', '\ufffd') in read.text.replace(
        '\x00', '\ufffd'
    )
    path = tmp_path / 'page.html'
    page.write(report, path)
    path.read_text(encoding='utf-8')


def test_the_page_has_an_end() -> None:
    entries = [example.entry('server-gone', n) for n in range(10)]
    unknown = [example.unknown(n) for n in range(5)]
    # The audit itself has kept less than it counted.
    report = example.report(
        *entries[:8],
        *unknown[:3],
        counts=content.Counts.of([*entries, *unknown]),
    )
    read = Page(report, limit=6)
    assert read.headline == '10 findings'
    lists = 'attachguard audit --all -f csv lists them'
    assert f'4 more are not on this page: {lists}' in read.text
    shows = 'attachguard audit --project PROJECT --html FILE'
    assert f'2 more are not on this page: {shows}' in read.text
    assert len(read.attributes('data-row')) == 6 + 3
    assert 'not on this page' not in Page(example.some()).text


def test_what_counts_comes_first_and_the_oldest_of_it() -> None:
    pending = content.State.PENDING
    entries = [
        example.entry('duplicate', 1, since='2026-01-01'),
        example.entry('server-gone', 2, since='2026-03-03'),
        example.entry('server-gone', 3, since='2026-01-01', state=pending),
        example.entry('server-gone', 4, since='2026-02-02'),
        example.entry('server-gone', 5, since=None),
    ]
    text = Page(example.report(*entries)).text
    places = [text.index(entry.finding.volume_id) for entry in entries]
    assert sorted(range(5), key=places.__getitem__) == [4, 3, 1, 2, 0]


@pytest.mark.parametrize(
    ('seconds', 'says'),
    [
        (0.2, 'in 0 s'),
        (59.6, 'in 1 min 0 s'),
        (112, 'in 1 min 52 s'),
        (7384, 'in 2 h 3 min'),
    ],
)
def test_how_long_it_took(seconds: float, says: str) -> None:
    finished = example.FINISHED
    started = finished - datetime.timedelta(seconds=seconds)
    assert says in Page(example.report(started=started)).text


def test_only_its_owner_and_group_read_it(tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'page.html'
    page.write(example.some(), path)
    assert path.read_text() == page.render(example.some())
    assert stat.S_IMODE(path.stat().st_mode) & 0o137 == 0


def test_a_big_page_is_not_too_big() -> None:
    """Some 10 MB with four calls for each finding."""
    kinds = list(checks.CLASSES)
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
