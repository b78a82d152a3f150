# SPDX-License-Identifier: Apache-2.0

"""The filter is put into a paste file, and taken out."""

from __future__ import annotations

import pathlib
import sys

import pytest

from attachguard import opts
from attachguard.guard import paste_edit
from attachguard.guard import preflight
from attachguard.testing import embedded

# As Cinder installs it.
CINDERS = pathlib.Path(sys.prefix, 'etc/cinder/api-paste.ini')
SECTIONS = (
    '[filter:authtoken]\na = b\n[filter:keystonecontext]\na = b\n'
    '[filter:other]\na = b\n[app:apiv3]\na = b\n[app:old]\na = b\n'
)
FACTORY = 'paste.filter_factory = attachguard.filter:filter_factory'
GUARD = f'[filter:guard]\n{FACTORY}\n'


def sample() -> str:
    return embedded.sample_paste_ini().read_text()


def file(pipeline: str, more: str = '') -> str:
    return f'{SECTIONS}{more}[composite:api]\nkeystone = {pipeline}\nx = y\n'


def test_the_sample_has_it_already() -> None:
    assert paste_edit.add(sample()) == sample()


def test_the_file_of_cinder_gets_it_and_loses_it(
    tmp_path: pathlib.Path,
) -> None:
    before = CINDERS.read_text()
    after = paste_edit.add(before)
    path = tmp_path / 'api-paste.ini'
    path.write_text(after)
    assert [
        (found.check, found.result) for found in preflight.pipelines(path)
    ] == [
        ('pipeline keystone', preflight.Result.OK),
        ('pipeline keystone_nolimit', preflight.Result.OK),
    ]
    # Again changes nothing, and the way back is the same text.
    assert paste_edit.add(after) == after
    assert paste_edit.remove(after) == before
    assert paste_edit.remove(before) == before


@pytest.mark.parametrize(
    ('pipeline', 'after'),
    [
        (
            'authtoken keystonecontext apiv3',
            'authtoken keystonecontext attachguard apiv3',
        ),
        (
            'authtoken\n  # why\n  keystonecontext other\n    apiv3',
            'authtoken\n  # why\n  keystonecontext other\n'
            '    attachguard apiv3',
        ),
        (
            'authtoken keystonecontext\r\n\tapiv3',
            'authtoken keystonecontext\r\n\tattachguard apiv3',
        ),
    ],
)
def test_the_text_around_it_stays(pipeline: str, after: str) -> None:
    before = file(pipeline)
    changed = paste_edit.add(before)
    assert changed.startswith(file(after))
    assert changed.removeprefix(file(after)) == (
        f'\n[filter:attachguard]\n{FACTORY}\n'
    )
    assert paste_edit.remove(changed) == before


def test_a_section_of_another_name_is_used() -> None:
    before = file('authtoken keystonecontext apiv3', GUARD)
    after = paste_edit.add(before)
    assert after == file('authtoken keystonecontext guard apiv3', GUARD)
    assert paste_edit.remove(after) == before


def test_a_section_with_options_stays() -> None:
    section = f'\n[filter:attachguard]\n{FACTORY}\nenforce = false\n'
    text = file('authtoken keystonecontext attachguard apiv3') + section
    assert paste_edit.remove(text).endswith(section)
    assert paste_edit.add(paste_edit.remove(text)) == text


@pytest.mark.parametrize(
    ('text', 'says'),
    [
        ('', 'no pipeline with authtoken'),
        ('[app:apiv3]\nx = y\n', 'no pipeline with authtoken'),
        ('[app:apiv3\n', 'no section headers'),
        (file('authtoken keystonecontext old2'), 'old2, which is no app'),
        (file('authtoken nowhere apiv3'), 'no .filter:nowhere'),
        (file('authtoken other apiv3'), 'no keystonecontext'),
        (file('keystonecontext authtoken apiv3'), 'no keystonecontext'),
        (
            file('authtoken keystonecontext guard other apiv3', GUARD),
            'guard is not right before apiv3',
        ),
        (
            file('authtoken keystonecontext guard guard apiv3', GUARD),
            'guard is not right before apiv3',
        ),
        (
            file('authtoken keystonecontext apiv3', GUARD)
            + f'[filter:second]\n{FACTORY}\n',
            'several filters',
        ),
        (
            file('authtoken keystonecontext apiv3')
            + '[filter:attachguard]\nuse = egg:another\n',
            'is another filter',
        ),
    ],
)
def test_what_has_another_form_is_refused(text: str, says: str) -> None:
    with pytest.raises(opts.ConfigError, match=says):
        paste_edit.add(text)
