# SPDX-License-Identifier: Apache-2.0
"""Reading of a paste file: which sections are the guard's, and their options.

paste.deploy hands a filter the options of its section, but leaves out those
whose names also stand in the file's ``[DEFAULT]`` section, and those that are
written ``set name = value``: see ``paste.deploy.loadwsgi``.
"""

from __future__ import annotations

from collections.abc import Mapping
import configparser
import pathlib

from paste.deploy import loadwsgi

from attachguard import opts

FACTORY = 'attachguard.filter:filter_factory'

_NOT_OPTIONS = ('paste.filter_factory', 'use')


def read(path: pathlib.Path) -> configparser.RawConfigParser:
    """Read a configuration file as oslo.config and paste.deploy accept it.

    :param path: of the file
    :returns: its sections, each without the options of ``[DEFAULT]``
    :raises attachguard.opts.ConfigError: if it cannot be read
    """
    try:
        return parse(path.read_text(encoding='utf-8'))
    except (OSError, opts.ConfigError, UnicodeDecodeError) as exc:
        raise opts.ConfigError(f'{path}: {exc}') from exc


def parse(text: str) -> configparser.RawConfigParser:
    """Parse a configuration file as oslo.config and paste.deploy accept it.

    :param text: of the file
    :returns: its sections, each without the options of ``[DEFAULT]``
    :raises attachguard.opts.ConfigError: if it cannot be parsed
    """
    config = configparser.RawConfigParser(
        strict=False, interpolation=None, default_section='paste.DEFAULT'
    )
    # paste.deploy does not fold the case of names.
    config.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        config.read_string(text)
    except configparser.Error as exc:
        raise opts.ConfigError(str(exc)) from exc
    return config


def filters(config: configparser.RawConfigParser) -> list[str]:
    """The names of the filters that are the guard.

    :param config: a paste file
    :returns: ``attachguard`` for the section ``[filter:attachguard]``
    """
    return [
        section.removeprefix('filter:')
        for section in config.sections()
        if section.startswith('filter:')
        and (
            config.get(section, 'paste.filter_factory', fallback='') == FACTORY
            or config.get(section, 'use', fallback='').startswith(
                'egg:attachguard'
            )
        )
    ]


def options(config: configparser.RawConfigParser, name: str) -> dict[str, str]:
    """The options of a filter's section, whatever ``[DEFAULT]`` has.

    :param config: a paste file
    :param name: of the filter
    """
    return {
        option.removeprefix('set ').removeprefix('get '): value
        for option, value in config.items(f'filter:{name}')
        if option not in _NOT_OPTIONS
    }


def left_out(
    global_conf: Mapping[str, str] | None, local_conf: Mapping[str, str]
) -> dict[str, str]:
    """The options of the filter's section that paste.deploy leaves out.

    :param global_conf: as paste.deploy hands it to the factory
    :param local_conf: the options of the section, as paste.deploy hands them
    :returns: the others, with variables such as ``%(here)s`` replaced
    :raises attachguard.opts.ConfigError: if several sections could be the
        filter's, and they differ
    """
    path = (global_conf or {}).get('__file__')
    if path is None:
        return {}
    config = read(pathlib.Path(path))
    # It replaces variables as paste.deploy does.
    parser = loadwsgi.ConfigLoader(path).parser
    found: list[dict[str, str]] = []
    for name in filters(config):
        section = f'filter:{name}'
        values: dict[str, str] = {}
        for option in options(config, name):
            if config.has_option(section, f'set {option}'):
                values[option] = parser.get(section, f'set {option}')
            elif option in parser.defaults() and not config.has_option(
                section, f'get {option}'
            ):
                values[option] = parser.get(section, option)
        handed = options(config, name).keys() - values.keys()
        if handed == local_conf.keys() and values not in found:
            found.append(values)
    if len(found) > 1:
        raise opts.ConfigError(
            f'{path}: several filters are attachguard, with options that also '
            'stand in [DEFAULT]: rename or remove those in [DEFAULT]'
        )
    return found[0] if found else {}
