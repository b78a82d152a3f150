# SPDX-License-Identifier: Apache-2.0

"""Parts of messages for operators."""

from __future__ import annotations

from oslo_config import cfg
import pytest

from attachguard import messages


@pytest.mark.parametrize(
    ('name', 'hint'),
    [
        ('enfroce', ' (did you mean "enforce"?)'),
        ('retry-after', ' (did you mean "retry_after"?)'),
        ('colour', ''),
        ('', ''),
    ],
)
def test_the_name_that_is_most_alike_is_suggested(
    name: str, hint: str
) -> None:
    assert messages.did_you_mean(name, ['enforce', 'retry_after']) == hint


def test_a_location_is_the_name_of_its_file() -> None:
    location = cfg.LocationInfo(cfg.Locations.user, '/etc/cinder/cinder.conf')
    error = ValueError(f'Value for x from {location} is not valid: no')
    assert messages.describe(error) == (
        'Value for x from /etc/cinder/cinder.conf is not valid: no'
    )
