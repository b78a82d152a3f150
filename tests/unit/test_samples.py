# SPDX-License-Identifier: Apache-2.0
"""The samples in etc/ are what their generators write today.

An operator reads the samples, the code obeys the options and the rules: this
keeps the two from drifting apart. ``make genconfig`` writes them anew.
"""

from __future__ import annotations

from collections.abc import Callable
import functools
import pathlib
import runpy

from oslo_config import cfg
from oslo_config import generator as config_generator
from oslo_policy import generator as policy_generator
import pytest

from attachguard import opts
from attachguard.guard import policy

_ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize(
    ('generate', 'settings', 'sample'),
    [
        pytest.param(
            config_generator.main,
            'attachguard-config-generator.conf',
            'attachguard.conf.sample',
            # keystoneauth's options are among them.
            marks=pytest.mark.newest,
            id='options',
        ),
        pytest.param(
            functools.partial(
                policy_generator.generate_sample, conf=cfg.ConfigOpts()
            ),
            'attachguard-policy-generator.conf',
            'attachguard-policy.yaml.sample',
            id='policy',
        ),
    ],
)
def test_sample_is_current(
    generate: Callable[[list[str]], None],
    settings: str,
    sample: str,
    tmp_path: pathlib.Path,
) -> None:
    written = tmp_path / sample

    generate(
        [
            '--config-file',
            str(_ROOT / 'tools/config' / settings),
            '--output-file',
            str(written),
        ]
    )

    assert (_ROOT / 'etc' / sample).read_text() == written.read_text()


def test_page_of_classes_is_current() -> None:
    tool = runpy.run_path(str(_ROOT / 'tools/generate_classes.py'))
    assert tool['PAGE'].read_text() == tool['page']()


def test_preset_is_current_and_can_be_used() -> None:
    tool = runpy.run_path(str(_ROOT / 'tools/generate_preset.py'))
    preset = tool['PRESET']
    assert preset.read_text() == tool['preset']()

    conf = cfg.ConfigOpts()
    conf([], default_config_files=[])
    opts.configure(conf, {'policy_file': str(preset)})
    policy.Policy(conf)
