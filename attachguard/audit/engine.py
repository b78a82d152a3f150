# SPDX-License-Identifier: Apache-2.0

"""A database, used through SQLAlchemy, with errors that name no secret.

It needs the extra ``sql``, and a driver for the database.
"""

from __future__ import annotations

import os
from typing import Any
import urllib.parse

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from attachguard.audit.repair import sql_change

# Seconds to connect. The drivers' own values differ: some wait for ever.
_CONNECT = 10


class DatabaseError(Exception):
    """The database cannot be used. The text says what to do.

    It never contains the password.
    """


class Engine:
    """A database.

    :param url: as in ``[database] connection`` of a service
    :param timeout: seconds for each read, of the drivers that have such a
        limit; None for no limits, also to connect
    :param options: of :func:`sqlalchemy.create_engine`
    :raises DatabaseError: the URL cannot be used, or its driver is missing
    """

    def __init__(
        self, url: str, timeout: float | None = None, **options: Any
    ) -> None:
        self._url = _parse(url)
        name = self._url.get_backend_name()
        #: ``mysql``, ``postgresql`` or ``sqlite``
        self.dialect = 'mysql' if name == 'mariadb' else name
        if self.dialect not in sql_change.DIALECTS:
            raise DatabaseError(
                f'attachguard cannot use a database of kind {name}: it '
                f'must be {", ".join(sql_change.DIALECTS.values())}'
            )
        if (
            self.dialect == 'sqlite'
            and 'uri' not in self._url.query
            and not os.path.isfile(self._url.database or '')
        ):
            # SQLite itself would create it.
            raise self.error('no such file')
        if timeout is not None:
            options['connect_args'] = _limits(self._url, timeout)
        try:
            self._engine = sa.create_engine(self._url, future=True, **options)
        except ImportError as exc:
            raise DatabaseError(
                f'the driver of {self._url.drivername} is not installed '
                f'({self._scrub(exc)}): install it, or name another driver in '
                'the URL, as in mysql+pymysql:// (PyMySQL) or '
                'postgresql+psycopg2:// (psycopg2)'
            ) from None
        except Exception as exc:
            raise self.error(exc) from None

    @property
    def place(self) -> str:
        """The host, if it has one, and the name of the database."""
        host = self._url.host or ''
        return '/'.join(filter(None, (host, self._url.database)))

    def connect(self) -> sa.engine.Connection:
        """Connect.

        :raises DatabaseError: that fails
        """
        try:
            return self._engine.connect()
        except Exception as exc:
            # Drivers raise exceptions of any class here.
            raise self.error(
                exc, 'Check the account, and that it may connect from here'
            ) from None

    def dispose(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def error(self, problem: Exception | str, hint: str = '') -> DatabaseError:
        """Return the error for a problem, without a secret.

        :param problem: of the driver, or a text
        :param hint: what to do
        """
        # The URL's query can contain secrets.
        where = self._url.set(query={}).render_as_string(hide_password=True)
        text = f'{where}: {self._scrub(problem)}'
        return DatabaseError(f'{text}. {hint}' if hint else text)

    def _scrub(self, problem: Exception | str) -> str:
        """Return a text without the statement and the secrets."""
        text = str(getattr(problem, 'orig', None) or problem)
        secrets = [self._url.password or '']
        for name, value in self._url.query.items():
            if 'pass' in name:
                secrets += [value] if isinstance(value, str) else value
        for secret in filter(None, secrets):
            for form in (secret, urllib.parse.quote_plus(secret)):
                text = text.replace(form, '***')
        return ' '.join(text.split())


def _limits(url: sa.engine.URL, timeout: float) -> dict[str, Any]:
    """Return the driver's arguments that let no read hang for ever."""
    driver = url.get_dialect().driver
    seconds = max(1, int(timeout))
    limits: dict[str, Any] = {}
    if driver in ('pymysql', 'mysqldb'):
        limits = {'connect_timeout': _CONNECT, 'read_timeout': seconds}
    elif driver in ('psycopg2', 'psycopg'):
        limits = {
            'connect_timeout': _CONNECT,
            'tcp_user_timeout': seconds * 1000,
        }
    return {
        name: value for name, value in limits.items() if name not in url.query
    }


def _parse(text: str) -> sa.engine.URL:
    try:
        url = sa.engine.make_url(text)
        # An unescaped @ ends the password: its rest is read as the host.
        broken = '@' in (url.host or '')
        url.get_dialect()
    except sa_exc.NoSuchModuleError:
        raise DatabaseError(
            f'SQLAlchemy has no kind of database {url.drivername}'
        ) from None
    except Exception:
        # Its text may contain the password.
        broken = True
    if broken:
        raise DatabaseError(
            'the URL of the database cannot be parsed: write it like '
            'mysql+pymysql://user:password@host/cinder, and other characters '
            'than letters and digits in the password like %40'
        )
    return url
