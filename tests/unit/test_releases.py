# SPDX-License-Identifier: Apache-2.0

"""What the releases are tested with: the project says it in several places."""

from __future__ import annotations

import configparser
from importlib import metadata
import pathlib
import runpy
import tomllib
import typing

from packaging import requirements
from packaging import utils
import pytest

_ROOT = pathlib.Path(__file__).parents[2]
_RELEASES = runpy.run_path(str(_ROOT / 'tools/make_release_pins.py'))[
    'RELEASES'
]


def _required() -> list[requirements.Requirement]:
    project = tomllib.loads((_ROOT / 'pyproject.toml').read_text())['project']
    lines = (_ROOT / 'requirements.txt').read_text().splitlines()
    for extra in project['optional-dependencies'].values():
        lines += extra
    return [
        requirement
        for requirement in map(
            requirements.Requirement,
            filter(None, (line.partition('#')[0].strip() for line in lines)),
        )
        if requirement.name != project['name']
    ]


def _pins(path: pathlib.Path) -> dict[str, str]:
    return {
        utils.canonicalize_name(name): version
        for name, equal, version in (
            line.partition('==') for line in path.read_text().splitlines()
        )
        if equal
    }


def test_each_release_has_its_pins_and_its_environment() -> None:
    directory = _ROOT / 'tools/releases'
    pins = {release.pins for release in _RELEASES}
    assert pins == set(directory.iterdir())

    tox = configparser.ConfigParser(interpolation=None)
    tox.read(_ROOT / 'tox.ini')
    numbers = ','.join(release.number for release in _RELEASES)
    assert tox.has_section(f'testenv:cinder-{{{numbers}}}')


@pytest.mark.parametrize('release', _RELEASES, ids=lambda one: one.number)
def test_pins_are_current(release: typing.Any) -> None:
    pins = _pins(release.pins)
    assert pins['cinder'] == release.cinder
    for required in _required():
        pin = pins[utils.canonicalize_name(required.name)]
        assert required.specifier.contains(pin), required


def test_lower_bounds_are_what_the_oldest_release_is_tested_with() -> None:
    pins = _pins(_RELEASES[0].pins)
    assert {
        utils.canonicalize_name(required.name): specifier.version
        for required in _required()
        for specifier in required.specifier
        if specifier.operator == '>='
    } == {
        name: pins[name]
        for name in (
            utils.canonicalize_name(required.name) for required in _required()
        )
    }


def test_the_guard_requires_only_what_cinder_does() -> None:
    added = _all_required('attachguard') - _all_required('cinder')
    assert added == {'attachguard'}


def _all_required(name: str) -> set[str]:
    """The names of all packages that one requires, without its extras."""
    found: set[str] = set()
    names = {name}
    while names:
        one = utils.canonicalize_name(names.pop())
        if one not in found:
            found.add(one)
            names |= {
                requirement.name
                for requirement in map(
                    requirements.Requirement, metadata.requires(one) or []
                )
                if requirement.marker is None
                or requirement.marker.evaluate({'extra': ''})
            }
    return found


def test_the_style_is_that_of_the_oldest_python() -> None:
    settings = tomllib.loads((_ROOT / 'pyproject.toml').read_text())
    oldest = settings['project']['requires-python'].removeprefix('>=')
    classifiers = settings['project']['classifiers']
    versions = [
        name.rpartition(' ')[2]
        for name in classifiers
        if name.startswith('Programming Language :: Python :: 3.')
    ]
    assert versions[0] == oldest
    assert settings['tool']['ruff']['target-version'] == (
        f'py{oldest.replace(".", "")}'
    )
