# SPDX-License-Identifier: Apache-2.0
"""Options of the filter's section, whatever paste.deploy hands on."""

from __future__ import annotations

import pathlib
from typing import Any

from paste import deploy
import pytest

from attachguard import opts
from attachguard.guard import paste_file
from tests.unit import fakes

PIPELINE = """
[pipeline:main]
pipeline = attachguard cinder

[app:cinder]
paste.app_factory = tests.unit.guard.test_paste_file:cinder_factory
"""


def cinder_factory(global_conf: Any, **local_conf: Any) -> fakes.FakeCinder:
    return fakes.FakeCinder()


def load(tmp_path: pathlib.Path, filters: str, defaults: str = '') -> Any:
    path = tmp_path / 'api-paste.ini'
    path.write_text(f'[DEFAULT]\n{defaults}\n{PIPELINE}\n{filters}')
    return deploy.loadapp(f'config:{path}')


SECTION = """
[filter:attachguard]
paste.filter_factory = attachguard.filter:filter_factory
"""


@pytest.mark.parametrize('factory', [paste_file.FACTORY, None])
@pytest.mark.parametrize(
    ('defaults', 'option'),
    [
        ('', 'enforce = false'),
        # paste.deploy hands on neither of these.
        ('enforce = true', 'enforce = false'),
        ('', 'set enforce = false'),
        ('shadow = false', 'enforce = %(shadow)s'),
        ('enforce = true\nshadow = false', 'enforce = %(shadow)s'),
        ('shadow = false', 'get enforce = shadow'),
    ],
)
def test_an_option_of_the_section_is_in_force(
    tmp_path: pathlib.Path,
    caplog: pytest.LogCaptureFixture,
    factory: str | None,
    defaults: str,
    option: str,
) -> None:
    caplog.set_level('INFO')
    section = SECTION
    if factory is None:
        section = '[filter:attachguard]\nuse = egg:attachguard\n'
    load(tmp_path, section + option, defaults)
    assert 'attachguard loaded: enforce=false' in caplog.text


def test_an_option_of_default_alone_is_not_the_filters(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level('INFO')
    load(tmp_path, SECTION, 'enforce = false\nother = 1')
    assert 'attachguard loaded: enforce=true' in caplog.text


def test_an_unknown_option_is_an_error(tmp_path: pathlib.Path) -> None:
    with pytest.raises(opts.ConfigError, match='enfroce'):
        load(tmp_path, SECTION + 'enfroce = false', 'enfroce = true')


def test_another_section_of_the_filter_does_not_matter(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level('INFO')
    other = SECTION.replace('attachguard]', 'other]') + 'retry_after = 9\n'
    load(tmp_path, f'{SECTION}enforce = false\n{other}', 'enforce = true')
    assert 'attachguard loaded: enforce=false' in caplog.text


def test_two_indistinguishable_sections_are_an_error(
    tmp_path: pathlib.Path,
) -> None:
    other = SECTION.replace('attachguard]', 'other]') + 'enforce = true\n'
    with pytest.raises(opts.ConfigError, match='rename or remove'):
        load(tmp_path, f'{SECTION}enforce = false\n{other}', 'enforce = true')
