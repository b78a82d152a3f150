# SPDX-License-Identifier: Apache-2.0
"""Sphinx configuration of the documentation."""

from __future__ import annotations

import argparse
from importlib import metadata

from openstack import config

project = 'attachguard'
copyright = 'attachguard contributors'
version = release = metadata.version('attachguard')

extensions = [
    'cliff.sphinxext',
    'openstackdocstheme',
    'oslo_config.sphinxconfiggen',
    'oslo_config.sphinxext',
    'oslo_policy.sphinxext',
    'oslo_policy.sphinxpolicygen',
    'sphinx.ext.autodoc',
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


def _login_options() -> list[str]:
    """Return the options that every OpenStack command has."""
    parser = argparse.ArgumentParser()
    config.OpenStackConfig(load_yaml_config=False).register_argparse_arguments(
        parser, [], service_keys=[]
    )
    return [
        name for action in parser._actions for name in action.option_strings
    ]


# The page of the commands explains the login options in one place.
autoprogram_cliff_application = 'attachguard'
autoprogram_cliff_app_dist_name = 'attachguard'
autoprogram_cliff_ignored = _login_options()

# Options begin with two hyphens, not with a dash.
smartquotes = False
toc_object_entries = False
autodoc_member_order = 'bysource'
autodoc_typehints = 'description'

html_theme = 'openstackdocs'
html_theme_options = {
    # Pages must not load a tracking script.
    'analytics_tracking_code': '',
    'root_title': 'attachguard',
}
html_static_path = ['_static']
html_css_files = ['attachguard.css']
templates_path = ['_templates']
openstackdocs_auto_version = False
openstackdocs_repo_name = 'attachguard'
