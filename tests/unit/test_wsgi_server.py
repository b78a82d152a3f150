# SPDX-License-Identifier: Apache-2.0

"""What is known of the server that runs the process."""

from __future__ import annotations

import sys
import types

import pytest

from attachguard import wsgi_server


def add_module(
    monkeypatch: pytest.MonkeyPatch, name: str, **attributes: object
) -> None:
    module = types.ModuleType(name)
    vars(module).update(attributes)
    monkeypatch.setitem(sys.modules, name, module)


def test_no_server_is_known_by_default() -> None:
    assert wsgi_server.detect() is None


@pytest.mark.parametrize('runs_threads', [0, 1])
def test_uwsgi(monkeypatch: pytest.MonkeyPatch, runs_threads: int) -> None:
    add_module(monkeypatch, 'uwsgi', cores=4, has_threads=runs_threads)
    expected = wsgi_server.Server('uWSGI', 4, bool(runs_threads))
    assert wsgi_server.detect() == expected


def test_mod_wsgi(monkeypatch: pytest.MonkeyPatch) -> None:
    add_module(monkeypatch, 'mod_wsgi', threads_per_process=3)
    assert wsgi_server.detect() == wsgi_server.Server('mod_wsgi', 3)


@pytest.mark.parametrize('name', ['uwsgi', 'mod_wsgi'])
def test_a_module_of_the_same_name(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # PyPI's mod_wsgi can be installed, and imported in any process.
    add_module(monkeypatch, name)
    assert wsgi_server.detect() is None


@pytest.mark.parametrize(
    ('threads', 'places'), [(1, 16), (2, 1), (3, 1), (8, 4), (64, 32)]
)
def test_half_of_the_threads_may_wait_for_nova(
    threads: int, places: int
) -> None:
    assert wsgi_server.places(wsgi_server.Server('uWSGI', threads)) == places


def test_a_server_that_is_not_known() -> None:
    assert wsgi_server.places(None) == 16
