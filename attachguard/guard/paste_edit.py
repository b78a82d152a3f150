# SPDX-License-Identifier: Apache-2.0
"""Editing of Cinder's paste file: put the filter in, or take it out.

The text is edited in place, so that comments and line breaks stay.  A file
that does not have the usual form is not edited.
"""

from __future__ import annotations

from collections.abc import Iterator
import configparser
import dataclasses
import re

from attachguard import opts
from attachguard.guard import paste_file

_NAME = 'attachguard'
_SECTION = f'\n[filter:{_NAME}]\npaste.filter_factory = {paste_file.FACTORY}\n'

# As it is added: behind an empty line, and without any option.
_OWN_SECTION = re.compile(rf'(?<=\n){re.escape(_SECTION)}(?=\n|\[|\Z)')

_HEADER = re.compile(r'\[(?P<name>[^]]+)\]')
_OPTION = re.compile(r'(?P<name>[^\s#;=:][^=:]*?)\s*[=:]')
_WORD = re.compile(r'\S+')


@dataclasses.dataclass(frozen=True)
class _Pipeline:
    """A pipeline of the text.

    :param name: of its option
    :param words: where each word of its value is
    """

    name: str
    words: list[re.Match[str]]

    def __getitem__(self, place: int) -> str:
        return self.words[place][0]

    def __iter__(self) -> Iterator[str]:
        return (word[0] for word in self.words)


def add(text: str) -> str:
    """Put the filter into each pipeline that authenticates.

    :param text: of a paste file
    :returns: the text with the filter; the same if it is there already
    :raises attachguard.opts.ConfigError: if the file has an unknown form
    """
    config = paste_file.parse(text)
    found = paste_file.filters(config)
    if len(found) > 1:
        raise opts.ConfigError(
            f'several filters are attachguard: {", ".join(found)}'
        )
    name = found[0] if found else _NAME
    if not found and config.has_section(f'filter:{name}'):
        raise opts.ConfigError(
            f'[filter:{name}] is another filter; rename it first'
        )
    places = []
    for pipeline in _pipelines(text, config):
        words = list(pipeline)
        if name not in words:
            places.append(pipeline.words[-1].start())
        elif words.index(name) != len(words) - 2 or words.count(name) > 1:
            raise opts.ConfigError(
                f'pipeline {pipeline.name}: {name} is not right before '
                f'{words[-1]}; remove it first'
            )
    for place in sorted(places, reverse=True):
        text = f'{text[:place]}{name} {text[place:]}'
    if not found:
        text = f'{text}{"" if text.endswith(chr(10)) else chr(10)}{_SECTION}'
    return text


def remove(text: str) -> str:
    """Take the filter out of every pipeline.

    Its section is removed, too, if it is as :func:`add` makes it.

    :param text: of a paste file
    :returns: the text without the filter; the same if it is not there
    :raises attachguard.opts.ConfigError: if the file has an unknown form
    """
    config = paste_file.parse(text)
    found = paste_file.filters(config)
    words = [
        word
        for pipeline in _pipelines(text, config)
        for word in pipeline.words
        if word[0] in found
    ]
    for word in sorted(words, key=re.Match.start, reverse=True):
        # With the space behind it: it is never the last one.
        rest = text[word.end() :]
        text = text[: word.start()] + re.sub(r'\A[ \t]*\n?[ \t]*', '', rest)
    return _OWN_SECTION.sub('', text)


def _pipelines(
    text: str, config: configparser.RawConfigParser
) -> list[_Pipeline]:
    """The pipelines that authenticate.

    :raises attachguard.opts.ConfigError: if there is none, or one has an
        unknown form
    """
    found = [pipeline for pipeline in _values(text) if 'authtoken' in pipeline]
    if not found:
        raise opts.ConfigError(
            'there is no pipeline with authtoken: is it the api-paste.ini of '
            'Cinder?'
        )
    for pipeline in found:
        words = list(pipeline)
        for word in words[:-1]:
            if not config.has_section(f'filter:{word}'):
                raise opts.ConfigError(
                    f'pipeline {pipeline.name}: there is no [filter:{word}]'
                )
        if not config.has_section(f'app:{words[-1]}'):
            raise opts.ConfigError(
                f'pipeline {pipeline.name}: it ends with {words[-1]}, which '
                'is no application'
            )
        if 'keystonecontext' not in words[words.index('authtoken') :]:
            raise opts.ConfigError(
                f'pipeline {pipeline.name}: there is no keystonecontext '
                'behind authtoken'
            )
    return found


def _values(text: str) -> Iterator[_Pipeline]:
    """The values of all options, word by word."""
    name = None
    words: list[re.Match[str]] = []
    start = 0
    for line in text.splitlines(keepends=True):
        end = start + len(line)
        option = _OPTION.match(line)
        if line.lstrip().startswith(('#', ';')):
            pass
        elif line[:1].isspace() and name is not None:
            words += _WORD.finditer(text, start, end)
        elif _HEADER.match(line) or option is None:
            if name is not None:
                yield _Pipeline(name, words)
            name = None
        else:
            if name is not None:
                yield _Pipeline(name, words)
            name = option['name']
            words = list(_WORD.finditer(text, start + option.end(), end))
        start = end
    if name is not None:
        yield _Pipeline(name, words)
