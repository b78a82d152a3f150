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

"""An audit as one page: for whoever has to read it, print it or pass it on.

The page loads nothing, from anywhere: it is as good from a disk or in a mail
as from a server. What it shows comes from APIs, and some of it from whoever
forged an attachment: Jinja escapes it all, and by the page's own policy
(Content-Security-Policy) only the style and the script that are part of
attachguard have an effect.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import datetime
import hashlib
from importlib import metadata
from importlib import resources
import itertools
import pathlib
from typing import Any

import jinja2

from attachguard.audit import checks
from attachguard.audit import files
from attachguard.audit import model
from attachguard.audit.report import content

#: How many findings, foreign attachments and volumes of which nothing is known
#: a page lists, each: what a browser still filters while one types (10 MB).
LIMIT = 5000


@dataclasses.dataclass(frozen=True)
class _Group:
    """The findings of a class.

    :param entries: those to list
    :param found: how many count
    :param pending: how many do not yet
    """

    kind: checks.Class
    entries: list[content.Entry]
    found: int
    pending: int

    @property
    def total(self) -> int:
        return self.found + self.pending


def write(report: content.Report, path: pathlib.Path) -> None:
    """Write the page of an audit.

    Its owner and group can read it, if the umask has nothing against it, and
    nobody else: it says whose volumes and servers there are, in every
    project. A directory with the group of a web server, and the bit setgid,
    is how that can show it.

    :param path: where to
    :raises attachguard.audit.files.NotWrittenError: if that did not work; the
        file, if there was one, is as it was
    """
    # APIs can say what is no character ("\ud800" in JSON).
    files.replace(path, render(report).encode(errors='replace'))


def render(report: content.Report, limit: int = LIMIT) -> str:
    """The page of an audit.

    :param limit: how much of each list is shown at most; the page says how
        much is not
    :returns: HTML
    """
    style = _asset('report.css')
    script = _asset('report.js')
    counts = report.counts
    entries = sorted(report.entries, key=_place)[:limit]
    by_class = {
        kind: list(group)
        for kind, group in itertools.groupby(
            entries, lambda entry: entry.finding.kind
        )
    }
    groups = [
        _Group(
            kind,
            by_class.get(name, []),
            counts.found[name],
            counts.pending[name],
        )
        for name, kind in checks.CLASSES.items()
    ]
    found = sum(counts.found.values())
    pending = sum(counts.pending.values())
    foreign = sum(counts.foreign.values())
    return (
        _environment()
        .get_template('report.html')
        .render(
            report=report,
            mood=_mood(report, found, pending),
            headline=_headline(report, found, pending),
            version=metadata.version('attachguard'),
            groups=groups,
            most=max(1, *(group.total for group in groups)),
            found=found,
            pending=pending,
            listed=entries,
            left_out=found + pending - len(entries),
            foreign=foreign,
            foreign_listed=report.foreign[:limit],
            foreign_left_out=foreign - len(report.foreign[:limit]),
            unknown_listed=report.unknown[:limit],
            unknown_left_out=counts.unknown - len(report.unknown[:limit]),
            style=style,
            style_hash=_hash(style),
            script=script,
            script_hash=_hash(script),
        )
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader('attachguard.audit.report'),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        duration=_duration, many=_many, minute=_minute, number=_number
    )
    return environment


def _asset(name: str) -> str:
    directory = resources.files('attachguard.audit.report') / 'templates'
    return (directory / name).read_text(encoding='utf-8')


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f'sha256-{base64.b64encode(digest).decode()}'


def _place(entry: content.Entry) -> tuple[Any, ...]:
    """Where it comes: by class, what counts first, then the oldest."""
    return (
        list(checks.CLASSES).index(entry.finding.kind),
        entry.state is content.State.PENDING,
        entry.finding.since or '',
        entry.finding.key,
    )


def _mood(report: content.Report, found: int, pending: int) -> str:
    if not report.success:
        return 'failed'
    if found:
        return 'found'
    return 'unsure' if pending or report.counts.unknown else 'clean'


def _headline(report: content.Report, found: int, pending: int) -> str:
    if not report.success:
        return 'The audit failed'
    if found:
        return _many(found, 'finding')
    if pending or report.counts.unknown:
        # "Clean" would say more than is known.
        return 'No findings yet' if pending else 'No findings'
    return 'Clean'


def _many(number: int, one: str, more: str | None = None) -> str:
    """A number of things, ``1 volume`` or ``1,200 volumes``."""
    return f'{_number(number)} {one if number == 1 else more or one + "s"}'


def _number(number: int) -> str:
    return f'{number:,}'


def _minute(when: datetime.datetime | str | None) -> str:
    """A time to read, in UTC; as it is where it is none."""
    read = model.moment(when) if isinstance(when, str) else when
    if read is None:
        return str(when or '')
    return f'{read.astimezone(datetime.UTC):%Y-%m-%d %H:%M}'


def _duration(length: datetime.timedelta) -> str:
    minutes, seconds = divmod(round(length.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, 'h'), (minutes, 'min'), (seconds, 's'))
    return ' '.join(_leading(parts)) or '0 s'


def _leading(parts: Iterable[tuple[int, str]]) -> Iterator[str]:
    """Two parts at most, from the first that is not 0."""
    shown = list(itertools.dropwhile(lambda part: not part[0], parts))[:2]
    return (f'{number} {unit}' for number, unit in shown)
