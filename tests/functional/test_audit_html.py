# SPDX-License-Identifier: Apache-2.0

"""The audit's page, in a real browser.

It wants Debian's chromium and chromium-driver, or whatever has those names.
Nothing is downloaded.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from collections.abc import Iterator
import dataclasses
import json
import os
import pathlib
import shutil
from typing import Any
from typing import TYPE_CHECKING

import pytest

from attachguard.audit import classes
from attachguard.audit import foreign
from attachguard.audit.report import content
from attachguard.audit.report import html
from tests.unit.audit import example
from tests.unit.audit.report import test_html

if TYPE_CHECKING:
    from selenium.webdriver.chrome import webdriver

# What the page imitates is no release of Cinder, and only the newest is
# tested with selenium.
pytestmark = pytest.mark.newest

_ARGUMENTS = (
    '--headless',
    # Root has none, and the pages are our own.
    '--no-sandbox',
    '--disable-dev-shm-usage',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
)
# Keys, as WebDriver has them.
_BACKSPACE = '\ue003'
_CONTROL = '\ue009'


@pytest.fixture(scope='module')
def chromium(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[webdriver.WebDriver]:
    browser, driver = map(shutil.which, ('chromium', 'chromedriver'))
    if browser is None or driver is None:
        missing = 'no chromium and chromedriver: see bindep.txt'
        if os.environ.get('CI'):
            pytest.fail(missing)
        pytest.skip(missing)
    # Here, for the releases' environments do not have it.
    from selenium import webdriver  # noqa: H301
    from selenium.webdriver.chrome import service

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in _ARGUMENTS:
        options.add_argument(argument)
    profile = tmp_path_factory.mktemp('chromium')
    options.add_argument(f'--user-data-dir={profile}')
    options.set_capability(
        'goog:loggingPrefs', {'browser': 'ALL', 'performance': 'ALL'}
    )
    running = webdriver.Chrome(options, service.Service(driver))
    try:
        # Its own first page makes many requests.
        running.get('about:blank')
        yield running
    finally:
        running.quit()


class Screen:
    """A page as a browser shows it.

    :param browser: which
    :param path: where the page is
    """

    def __init__(
        self, browser: webdriver.WebDriver, path: pathlib.Path
    ) -> None:
        self._browser = browser
        self._path = path

    def show(
        self,
        report: content.Report,
        *,
        dark: bool = False,
        width: int = 1360,
        script: bool = True,
    ) -> None:
        """Write a page, and open it.

        :param script: whether its own script runs
        """
        html.write(report, self._path)
        self._tell(
            'Emulation.setEmulatedMedia',
            features=[
                {
                    'name': 'prefers-color-scheme',
                    'value': 'dark' if dark else 'light',
                }
            ],
        )
        self._tell(
            'Emulation.setDeviceMetricsOverride',
            width=width,
            height=2400,
            deviceScaleFactor=1,
            mobile=False,
        )
        disabled = 'Emulation.setScriptExecutionDisabled'
        self._tell(disabled, value=not script)
        self._browser.get(self._path.as_uri())
        # For that of a test.
        self._tell(disabled, value=False)

    def execute(self, script: str, *arguments: Any) -> Any:
        """Run a script, and return its result."""
        return self._browser.execute_script(script, *arguments)

    def texts(self, selector: str) -> list[str]:
        """Return the text of each visible element."""
        found: list[str] = self.execute(
            'return [...document.querySelectorAll(arguments[0])]'
            '.filter((element) => element.checkVisibility())'
            ".map((element) => element.textContent.trim()"
            ".replace(/\\s+/g, ' '))",
            selector,
        )
        return found

    def type(self, text: str) -> None:
        """Type into the filter, with nothing else in it."""
        box = self._browser.find_element('id', 'filter')
        box.send_keys(_CONTROL + 'a' + _CONTROL, _BACKSPACE, text)

    def press(self, selector: str, *keys: str) -> None:
        """Use the keyboard on an element."""
        self._browser.find_element('css selector', selector).send_keys(*keys)

    def unfold(self, selector: str) -> None:
        """Click on each visible summary."""
        for summary in self._browser.find_elements('css selector', selector):
            if summary.is_displayed():
                summary.click()

    def errors(self) -> list[str]:
        """Return the errors and violations that the browser logs."""
        log = self._browser.get_log('browser')  # type: ignore[no-untyped-call]
        return [entry['message'] for entry in log]

    def requests(self) -> list[str]:
        """Return the URLs that were requested since the last call."""
        log = self._browser.get_log(  # type: ignore[no-untyped-call]
            'performance'
        )
        events = [json.loads(entry['message'])['message'] for entry in log]
        return [
            event['params']['request']['url']
            for event in events
            if event['method'] == 'Network.requestWillBeSent'
        ]

    def screenshot(self) -> bytes:
        """Return a screenshot, as a PNG."""
        return base64.b64decode(self._tell('Page.captureScreenshot')['data'])

    def _tell(self, command: str, **arguments: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._browser.execute_cdp_cmd(
            command, arguments
        )
        return answer


@pytest.fixture
def screen(
    chromium: webdriver.WebDriver, tmp_path: pathlib.Path
) -> Iterator[Screen]:
    path = tmp_path / 'page.html'
    screen = Screen(chromium, path)
    screen.requests()
    yield screen
    assert screen.errors() == []
    # The icon is in the page.
    urls = {url for url in screen.requests() if not url.startswith('data:')}
    assert urls == {path.as_uri()}


@pytest.mark.parametrize('width', [1360, 400])
@pytest.mark.parametrize(
    ('report', 'headline'),
    [
        (example.report(), 'Clean'),
        (example.some(), '15 findings'),
        (example.report(error='Nova is down'), 'The audit failed'),
    ],
    ids=['clean', 'found', 'failed'],
)
def test_the_page_fits_the_screen(
    screen: Screen, report: content.Report, headline: str, width: int
) -> None:
    screen.show(report, width=width)
    assert screen.texts('h1') == [headline]
    wide, shown = screen.execute(
        'return ["scrollWidth", "clientWidth"].map('
        '(name) => document.documentElement[name])'
    )
    assert wide == shown <= width


def test_the_bars_are_as_long_as_there_are_findings(screen: Screen) -> None:
    report = example.some()
    screen.show(report)
    found = screen.execute(
        'return [...document.querySelectorAll("[data-class]")].map((row) => ['
        'row.dataset.class, '
        '[...row.querySelectorAll("rect")].map('
        '(bar) => bar.getBoundingClientRect().width), '
        'row.textContent.trim().split(/\\s+/)])'
    )
    assert [name for name, _, _ in found] == list(classes.CLASSES)
    full = found[0][1][0]
    assert full > 500
    for name, (track, bar, more), words in found:
        assert track == full
        # 8 and 2 of server-gone are the most.
        assert bar == pytest.approx(report.counts.found[name] * full / 10, 0.1)
        assert more == pytest.approx(
            report.counts.pending[name] * full / 10, 0.1
        )
        pending = report.counts.pending[name]
        label = str(report.counts.found[name]) + f'+{pending}' * bool(pending)
        assert words == [name, label]


def _volume(item: Any) -> str:
    finding = getattr(item, 'finding', item)
    return str(finding.volume_id)


@pytest.mark.parametrize(
    ('typed', 'matches'),
    [
        pytest.param(
            'SERVER-lacks',
            lambda item: (
                getattr(item, 'finding', None) is not None
                and item.finding.kind == 'server-lacks-volume'
            ),
            id='a class',
        ),
        pytest.param(
            example.entry('server-gone', 4).finding.volume_id,
            lambda item: (
                _volume(item)
                == example.entry('server-gone', 4).finding.volume_id
            ),
            id='an id',
        ),
        pytest.param(
            'server-gone pending',
            lambda item: (
                isinstance(item, content.Entry)
                and item.state is content.State.PENDING
                and item.finding.kind == 'server-gone'
            ),
            id='two words',
        ),
        pytest.param(
            'conductor-1 zun',
            lambda item: (
                isinstance(item, content.Foreign) and 'zun' in item.why
            ),
            id='a host and a pattern',
        ),
        pytest.param(
            # In evidence that is folded.
            '503',
            lambda item: (
                isinstance(item, content.Unknown) or '503' in repr(item)
            ),
            id='a status',
        ),
        pytest.param('copy', lambda item: False, id='a label of a button'),
        pytest.param(' ', lambda item: True, id='nothing'),
    ],
)
def test_the_filter_shows_what_matches(
    screen: Screen, typed: str, matches: Callable[[Any], bool]
) -> None:
    report = example.some()
    items = [*report.entries, *report.unknown, *report.foreign]
    expected = sorted(_volume(item) for item in items if matches(item))
    screen.show(report)
    screen.type(typed)
    shown = screen.texts('[data-row] tr:first-child td:first-child')
    assert sorted(shown) == expected
    [summary] = screen.texts('output')
    assert summary == (
        f'{len(expected)} of {len(items)} match' if typed.strip() else ''
    )
    # No heading without something below.
    for group in screen.execute(
        'return [...document.querySelectorAll("[data-group]:not([hidden])")]'
        '.map((group) => group.querySelectorAll("[data-row]:not([hidden])")'
        '.length)'
    ):
        assert group > 0

    screen.type('x')
    screen.type('')
    assert len(screen.texts('[data-row]')) == len(items)


def test_thousands_of_findings_are_filtered_while_typing(
    screen: Screen,
) -> None:
    kinds = ('server-gone', 'server-lacks-volume')
    entries = [example.entry(kinds[n % 2], n) for n in range(html.LIMIT)]
    screen.show(example.report(*entries))
    took, count = screen.execute(
        """
        const box = document.querySelector('#filter');
        const began = performance.now();
        for (const text of [arguments[0], '']) {
          box.value = text;
          box.dispatchEvent(new Event('input', {bubbles: true}));
          var count = count || document.querySelector('output').textContent;
          document.body.offsetHeight;  // Laid out, too.
        }
        return [performance.now() - began, count];
        """,
        entries[4321].finding.volume_id,
    )
    assert count == '1 of 5,000 match'
    # Some 80 ms, where nothing else runs; 4 s if it were laid out whole.
    assert took < 2000


def _many() -> content.Report:
    """Two pages of a class, and one of another."""
    return example.report(
        *(example.entry('server-gone', n) for n in range(html.PAGE + 9)),
        *(example.entry('duplicate', n) for n in range(5)),
    )


@pytest.mark.parametrize('width', [1280, 400])
@pytest.mark.parametrize('script', [True, False])
def test_a_thousand_findings_are_folded_by_class(
    screen: Screen, script: bool, width: int
) -> None:
    kinds = ('server-gone', 'server-gone', 'duplicate')
    entries = [example.entry(kinds[n % 3], n) for n in range(1000)]
    screen.show(example.report(*entries), script=script, width=width)
    assert screen.texts('.group > summary > h3') == [
        'server-gone 667',
        'duplicate 333',
    ]
    assert screen.texts('[data-row]') == []
    # The rest is the header, the chart and the names of the classes.
    assert len(screen.texts('body *')) < 250
    wide, shown = screen.execute(
        'return ["scrollWidth", "clientWidth"].map('
        '(name) => document.documentElement[name])'
    )
    assert wide == shown <= width


@pytest.mark.parametrize('script', [True, False])
def test_everything_is_unfolded_by_clicks(
    screen: Screen, script: bool
) -> None:
    report = _many()
    screen.show(report, script=script)
    screen.unfold('.group > summary')
    assert len(screen.texts('[data-row]')) == html.PAGE + 5
    assert screen.texts('.page > summary') == ['51–59 of 59']
    screen.unfold('.page > summary')
    shown = screen.texts('[data-row] tr:first-child td:first-child')
    assert sorted(shown) == sorted(map(_volume, report.entries))


def test_the_filter_unfolds_what_matches_and_folds_it_again(
    screen: Screen,
) -> None:
    screen.show(_many())
    last = screen.execute(
        'return document.querySelector(".page [data-row] code").textContent'
    )
    screen.type(last)
    first = '[data-row] tr:first-child td:first-child'
    assert screen.texts(first) == [last]
    assert screen.texts('.group > summary > h3') == ['server-gone 59']
    screen.type('x')
    screen.type('')
    assert screen.texts('[data-row]') == []
    assert len(screen.texts('.group > summary')) == 2


def test_a_column_is_sorted_over_all_pages(screen: Screen) -> None:
    report = _many()
    screen.show(report)
    screen.unfold('summary')
    volumes = sorted(
        entry.finding.volume_id
        for entry in report.entries
        if entry.finding.kind == 'server-gone'
    )
    screen.press('[data-group=server-gone] th button', '\n')
    cells = '[data-group=server-gone] tr:first-child > td:first-child'
    assert screen.texts(cells) == volumes
    assert len(screen.texts(f'.page {cells.split(" ", 1)[1]}')) == 9


@pytest.mark.parametrize('width', [1280, 400])
def test_no_command_is_out_of_sight(screen: Screen, width: int) -> None:
    entry = dataclasses.replace(example.entry(), script='openstack ' * 60)
    screen.show(example.report(entry), width=width)
    right, clipped = screen.execute(
        'const code = document.querySelector(".command code");'
        'return [code.getBoundingClientRect().right,'
        ' code.scrollWidth > code.clientWidth]'
    )
    assert right <= width
    assert not clipped
    selected = screen.execute(
        'getSelection().selectAllChildren('
        'document.querySelector(".command code"));'
        'return getSelection().toString()'
    )
    # The line breaks on the screen are not in what is copied.
    assert selected.strip() == entry.script.strip()


def test_evidence_unfolds_by_the_keyboard(screen: Screen) -> None:
    entry = example.entry()
    screen.show(example.report(entry))
    assert screen.texts('[data-row] li') == []
    screen.press('[data-row] summary', '\n')
    lines = screen.texts('[data-row] li')
    assert [' 200 ' in lines[0], ' 404 ' in lines[1]] == [True, True]
    assert str(entry.finding.evidence[1].request_id) in lines[1]


def test_columns_sort_by_the_keyboard(screen: Screen) -> None:
    entries = [example.entry(number=n) for n in range(5)]
    volumes = sorted(entry.finding.volume_id for entry in entries)
    screen.show(example.report(*entries))
    for order, expected in (
        ('ascending', volumes),
        ('descending', volumes[::-1]),
    ):
        screen.press('th button', '\n')
        assert screen.texts('tr:first-child > td:first-child') == expected
        sort = screen.execute('return document.querySelector("th").ariaSort')
        assert sort == order


def test_the_command_can_be_copied(screen: Screen) -> None:
    entry = example.entry()
    screen.show(example.report(entry))
    screen.press('.command button', '\n')
    selected = screen.execute('return getSelection().toString()')
    assert selected.strip() == entry.script
    [label] = screen.texts('.command button')
    assert label in ('Copy', 'Copied', 'Selected')


@pytest.mark.parametrize('text', test_html.HOSTILE)
def test_no_text_of_the_apis_is_executed(screen: Screen, text: str) -> None:
    hostile: dict[str, Any] = dict.fromkeys(
        ('volume_id', 'attachment_id', 'server_id', 'project_id', 'text'),
        text,
    )
    attachment = example.foreign_attachment().attachment
    screen.show(
        example.report(
            example.entry(since=text, **hostile),
            content.Foreign(
                text,
                attachment,
                foreign.Match(foreign.Reason.PATTERN, text),
            ),
            content.Unknown(text, text),
            cloud=text,
            region=text,
            error=text,
        )
    )
    assert screen.execute('return window.pwned') is None
    assert screen.texts('tr:first-child > td:first-child') == [text] * 3
    screen.type(text)
    assert len(screen.texts('[data-row]')) == 3


def test_the_page_has_a_dark_mode(screen: Screen) -> None:
    background = (
        'return getComputedStyle(document.documentElement).backgroundColor'
    )
    screenshots = set()
    for dark, expected in (
        (False, 'rgb(255, 255, 255)'),
        (True, 'rgb(18, 21, 26)'),
    ):
        screen.show(example.some(), dark=dark)
        assert screen.execute(background) == expected
        screenshots.add(screen.screenshot())
    assert len(screenshots) == 2
    assert all(screenshot.startswith(b'\x89PNG') for screenshot in screenshots)
