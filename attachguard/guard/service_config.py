# SPDX-License-Identifier: Apache-2.0
"""Cinder's configuration, loaded by a command as cinder-api loads it."""

from __future__ import annotations

from collections.abc import Sequence
import pathlib

from oslo_config import cfg

from attachguard import opts
from attachguard.guard import paste_file

# Of Cinder itself. The guard reads its region if it has none of its own.
_CINDERS: list[tuple[str | None, cfg.Opt]] = [
    (None, cfg.StrOpt('api_paste_config', default='api-paste.ini')),
    (None, cfg.StrOpt('auth_strategy', default='keystone')),
    (opts.CINDERS, cfg.StrOpt('region_name')),
]


def load(
    conf: cfg.ConfigOpts, files: Sequence[pathlib.Path] | None = None
) -> None:
    """Load the configuration files.

    :param conf: to load them into
    :param files: the files; by default those that cinder-api reads
    :raises oslo_config.cfg.Error: if one cannot be read
    """
    register(conf)
    conf(
        [],
        project='cinder',
        default_config_files=None if files is None else list(map(str, files)),
    )


def register(conf: cfg.ConfigOpts) -> None:
    """Register the options of Cinder that the commands read.

    :param conf: the configuration
    """
    for group, opt in _CINDERS:
        conf.register_opt(opt, group=group)


def find_paste_ini(conf: cfg.ConfigOpts) -> pathlib.Path | None:
    """Find Cinder's paste file.

    :param conf: loaded
    :returns: None if there is none
    """
    found = conf.find_file(conf.api_paste_config)
    return None if found is None else pathlib.Path(found)


def filter_options(paste_ini: pathlib.Path | None) -> dict[str, str]:
    """Read the options of the filter's section of the paste file.

    :param paste_ini: the file
    :returns: the options, empty without a file
    :raises attachguard.opts.ConfigError: if the file cannot be read
    """
    if paste_ini is None:
        return {}
    config = paste_file.read(paste_ini)
    found: dict[str, str] = {}
    for name in paste_file.filters(config):
        found.update(paste_file.options(config, name))
    return found
