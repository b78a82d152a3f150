# SPDX-License-Identifier: Apache-2.0
"""The links, files, make targets and commands in the documentation exist."""

from __future__ import annotations

from collections.abc import Iterator
import configparser
import itertools
import pathlib
import re
import tomllib

import pytest

_ROOT = pathlib.Path(__file__).parents[3]
_SOURCE = _ROOT / 'doc' / 'source'
_TOP = [
    _ROOT / name for name in ('README.rst', 'CONTRIBUTING.rst', 'SECURITY.rst')
]
_PAGES = sorted(_SOURCE.rglob('*.rst'))
# The build writes them.
_GENERATED = {
    '/_static/attachguard.conf.sample',
    '/_static/attachguard.policy.yaml.sample',
}

_LINK = re.compile(r'`[^`]+?<([^>`]+)>`__?')
_DOC = re.compile(r':doc:`(?:[^`<]+<)?([^`<>]+)>?`')
_LITERAL = re.compile(r'``([^`]+)``')
_DIRECTIVE = re.compile(
    r'^ *\.\. (?:image|include|literalinclude):: (\S+)', re.M
)
_DOWNLOAD = re.compile(r':download:`[^`<]+<([^>`]+)>`')
_TOCTREE = re.compile(r'^\.\. toctree::\n((?:(?:   .*)?\n)+)', re.M)
_MODULE = re.compile(r'python -m ((?:tests|benchmarks)[\w.]*)')
_MAKE = re.compile(r'(?:^ {3,}(?:\$ )?|``)make ([a-z][a-z0-9-]*)', re.M)
_TOX = re.compile(r'tox -e ([a-z][a-z0-9-]*)')
_COMMAND = re.compile(r'(?:^ {3,}(?:\$ )?|``)attachguard ([a-z]+)\b', re.M)
_FOLDERS = re.compile(
    r'(?:attachguard|benchmarks|doc|etc|releasenotes|tests|tools)/[\w./-]*'
)
_FILE = re.compile(r'[\w.-]+\.(?:cfg|py|rst|sample|toml|txt)')


def _name(page: pathlib.Path) -> str:
    return page.relative_to(_ROOT).as_posix()


_any_page = pytest.mark.parametrize('page', [*_TOP, *_PAGES], ids=_name)
_built_page = pytest.mark.parametrize('page', _PAGES, ids=_name)


def _relative_links(page: pathlib.Path) -> list[str]:
    return [
        target
        for target in _LINK.findall(page.read_text())
        if '://' not in target
    ]


def _document(page: pathlib.Path, target: str) -> pathlib.Path:
    """Return the file of a document that Sphinx finds by a name."""
    folder = _SOURCE if target.startswith('/') else page.parent
    return folder / f'{target.lstrip("/")}.rst'


def _in_toctree(page: pathlib.Path) -> Iterator[pathlib.Path]:
    for entries in _TOCTREE.findall(page.read_text()):
        for entry in entries.split('\n'):
            if entry.strip() and not entry.strip().startswith(':'):
                yield _document(page, entry.strip()).resolve()


@pytest.mark.parametrize('page', _TOP, ids=_name)
def test_a_relative_link_of_a_top_level_page_resolves(
    page: pathlib.Path,
) -> None:
    links = _relative_links(page)

    assert links
    assert not [link for link in links if not (_ROOT / link).exists()]


@_built_page
def test_a_built_page_has_no_link_that_only_a_code_host_resolves(
    page: pathlib.Path,
) -> None:
    text = re.sub(r':(?:doc|download):`[^`]+`', '', page.read_text())

    assert not [link for link in _LINK.findall(text) if '://' not in link]


@_built_page
def test_a_reference_to_another_page_resolves(page: pathlib.Path) -> None:
    targets = _DOC.findall(page.read_text())

    assert not [
        target for target in targets if not _document(page, target).is_file()
    ]


@_built_page
def test_a_file_that_a_page_includes_exists(page: pathlib.Path) -> None:
    text = page.read_text()
    targets = {*_DIRECTIVE.findall(text), *_DOWNLOAD.findall(text)}

    assert not [
        target
        for target in targets - _GENERATED
        if not (page.parent / target).is_file()
    ]


def test_each_page_is_in_one_table_of_contents() -> None:
    listed = list(
        itertools.chain.from_iterable(_in_toctree(page) for page in _PAGES)
    )

    assert sorted([*listed, _SOURCE / 'index.rst']) == _PAGES


@_any_page
def test_a_file_or_folder_that_a_page_names_exists(
    page: pathlib.Path,
) -> None:
    names = [
        literal
        for literal in _LITERAL.findall(page.read_text())
        if _FOLDERS.fullmatch(literal) or _FILE.fullmatch(literal)
    ]
    folders = (_ROOT, _ROOT / 'etc', _ROOT / 'doc', page.parent)

    assert not [
        name
        for name in names
        if not any((folder / name).exists() for folder in folders)
    ]


@_any_page
def test_a_module_that_a_page_runs_exists(page: pathlib.Path) -> None:
    modules = _MODULE.findall(page.read_text())

    assert not [
        module
        for module in modules
        if not (_ROOT / module.replace('.', '/')).is_dir()
        and not (_ROOT / f'{module.replace(".", "/")}.py').is_file()
    ]


@_any_page
def test_a_make_target_that_a_page_names_exists(page: pathlib.Path) -> None:
    makefile = (_ROOT / 'Makefile').read_text()
    targets = set(re.findall(r'^([a-z][a-z0-9-]*):', makefile, re.M))

    assert not set(_MAKE.findall(page.read_text())) - targets


@_any_page
def test_a_tox_environment_that_a_page_names_exists(
    page: pathlib.Path,
) -> None:
    tox = configparser.RawConfigParser()
    tox.read(_ROOT / 'tox.ini')
    names = set()
    for section in tox.sections():
        before, _, rest = section.removeprefix('testenv:').partition('{')
        choices, _, after = rest.partition('}')
        names |= {f'{before}{one}{after}' for one in choices.split(',')}

    assert not set(_TOX.findall(page.read_text())) - names


@_any_page
def test_a_command_that_a_page_names_exists(page: pathlib.Path) -> None:
    project = tomllib.loads((_ROOT / 'pyproject.toml').read_text())['project']
    # cliff adds the first two. The others are the start of a log line.
    commands = {
        *(
            name.partition('_')[0]
            for name in project['entry-points']['attachguard.cli']
        ),
        'complete',
        'help',
        'covers',
        'decision',
        'loaded',
    }

    assert not set(_COMMAND.findall(page.read_text())) - commands


def test_the_readme_has_300_to_500_words() -> None:
    words = (_ROOT / 'README.rst').read_text().split()

    assert 300 <= len(words) <= 500
