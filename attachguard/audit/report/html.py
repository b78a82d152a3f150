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

"""The report of an audit as one HTML page.

The page loads nothing, so that it also works from a disk or an email.  Its
content comes from the APIs, and some of it from users: Jinja escapes all of
it, and the page's Content-Security-Policy allows only the style and the script
of attachguard.
"""

from __future__ import annotations

import base64
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

#: The most findings, foreign attachments and unknown volumes on a page, each:
#: a browser filters them while the user types (10 MB).
LIMIT = 5000


@dataclasses.dataclass(frozen=True)
class _Group:
    """The findings of a class.

    :param entries: those to list
    :param found: how many are confirmed
    :param pending: how many are not
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

    Only its owner and group can read it, as the umask allows: it shows the
    volumes and servers of every project.  A web server can serve it from a
    setgid directory of its group.

    :param path: of the file
    :raises attachguard.audit.files.NotWrittenError: if that fails; an existing
        file is unchanged
    """
    # JSON can contain what is no character ("\ud800").
    files.replace(path, render(report).encode(errors='replace'))


def render(report: content.Report, limit: int = LIMIT) -> str:
    """The page of an audit.

    :param limit: the most items of each list; the page shows how many more
        there are
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
    """The sort key: by class, the confirmed ones first, then the oldest."""
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
        # "Clean" would claim more than was checked.
        return 'No findings yet' if pending else 'No findings'
    return 'Clean'


def _many(number: int, one: str, more: str | None = None) -> str:
    """A number of things, ``1 volume`` or ``1,200 volumes``."""
    return f'{_number(number)} {one if number == 1 else more or one + "s"}'


def _number(number: int) -> str:
    return f'{number:,}'


def _minute(when: datetime.datetime | str | None) -> str:
    """A time in UTC; unchanged if it is not valid."""
    read = model.moment(when) if isinstance(when, str) else when
    if read is None:
        return str(when or '')
    return f'{read.astimezone(datetime.UTC):%Y-%m-%d %H:%M}'


def _duration(length: datetime.timedelta) -> str:
    minutes, seconds = divmod(round(length.total_seconds()), 60)
    if not minutes:
        return f'{seconds} s'
    if minutes < 60:
        return f'{minutes} min {seconds} s'
    return f'{minutes // 60} h {minutes % 60} min'
