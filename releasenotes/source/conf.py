# SPDX-License-Identifier: Apache-2.0
"""Sphinx configuration of the release notes."""

from __future__ import annotations

project = 'attachguard Release Notes'
copyright = 'attachguard contributors'

extensions = [
    'openstackdocstheme',
    'reno.sphinxext',
]

# The notes belong to every version, so the pages carry none.
version = ''
release = ''

html_theme = 'openstackdocs'
html_theme_options = {
    # Pages must not load a tracking script.
    'analytics_tracking_code': '',
    'root_title': 'attachguard',
}
html_static_path = ['../../doc/source/_static/attachguard.css']
html_css_files = ['attachguard.css']
templates_path = ['../../doc/source/_templates']
openstackdocs_auto_name = False
openstackdocs_auto_version = False
openstackdocs_repo_name = 'attachguard'
