# SPDX-License-Identifier: Apache-2.0

"""The report of an audit as one HTML page.

The page loads nothing, so that it also works from a disk or an email.
"""

from __future__ import annotations

import datetime
from importlib import metadata
import pathlib
from typing import Any

import jinja2

from attachguard import html_page
from attachguard.audit import classes
from attachguard.audit import files
from attachguard.audit import model
from attachguard.audit.report import content

#: The most findings, foreign attachments and unknown volumes on a page, each:
#: a browser filters them while the user types (10 MB).
LIMIT = 5000

#: Items of a list that are shown together. The rest is folded; if there are
#: more in all, each class is folded, too.
PAGE = 50

_PACKAGE = 'attachguard.audit.report'


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
    counts = report.counts
    entries = sorted(report.entries, key=_place)[:limit]
    groups = [
        {
            'kind': kind,
            'entries': [e for e in entries if e.finding.kind == name],
            'found': counts.found[name],
            'pending': counts.pending[name],
            'total': counts.found[name] + counts.pending[name],
        }
        for name, kind in classes.CLASSES.items()
    ]
    found = sum(counts.found.values())
    pending = sum(counts.pending.values())
    mood, headline = _verdict(report, found, pending)
    return (
        _environment()
        .get_template('report.html')
        .render(
            report=report,
            limit=limit,
            page_size=PAGE,
            mood=mood,
            headline=headline,
            version=metadata.version('attachguard'),
            groups=groups,
            found=found,
            pending=pending,
            listed=entries,
            foreign=sum(counts.foreign.values()),
            style=html_page.asset(_PACKAGE, 'report.css'),
            script=html_page.asset(_PACKAGE, 'report.js'),
        )
    )


def _environment() -> jinja2.Environment:
    environment = html_page.environment(_PACKAGE)
    environment.filters.update(
        duration=_duration,
        many=_many,
        minute=_minute,
        number=_number,
    )
    return environment


def _place(entry: content.Entry) -> tuple[Any, ...]:
    """The sort key: by class, the confirmed ones first, then the oldest."""
    return (
        list(classes.CLASSES).index(entry.finding.kind),
        entry.state is content.State.PENDING,
        entry.finding.since or '',
        entry.finding.key,
    )


def _verdict(
    report: content.Report, found: int, pending: int
) -> tuple[str, str]:
    """The class of the page, which sets its colour, and the headline."""
    if not report.success:
        return 'failed', 'The audit failed'
    if found:
        return 'found', _many(found, 'finding')
    if pending:
        return 'unsure', 'No findings yet'
    if report.counts.unknown or report.doubts or report.unchecked:
        # "Clean" would claim more than was checked.
        return 'unsure', 'No findings'
    return 'clean', f'Clean within {report.scope}' if report.scope else 'Clean'


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
    return f'{read.astimezone(datetime.timezone.utc):%Y-%m-%d %H:%M UTC}'


def _duration(length: datetime.timedelta) -> str:
    minutes, seconds = divmod(round(length.total_seconds()), 60)
    if not minutes:
        return f'{seconds} s'
    if minutes < 60:
        return f'{minutes} min {seconds} s'
    return f'{minutes // 60} h {minutes % 60} min'
