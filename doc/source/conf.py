# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.
"""Sphinx configuration of the documentation."""

from __future__ import annotations

project = 'attachguard'
copyright = 'attachguard contributors'

extensions = [
    'oslo_config.sphinxconfiggen',
    'oslo_config.sphinxext',
    'oslo_policy.sphinxext',
    'oslo_policy.sphinxpolicygen',
]

# The extensions add .conf.sample and .policy.yaml.sample.
config_generator_config_file = [
    (
        '../../tools/config/attachguard-config-generator.conf',
        '_static/attachguard',
    ),
]
policy_generator_config_file = [
    (
        '../../tools/config/attachguard-policy-generator.conf',
        '_static/attachguard',
    ),
]

html_theme = 'alabaster'
html_static_path = ['_static']
