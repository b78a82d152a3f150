# SPDX-License-Identifier: Apache-2.0
"""The recipes of ``deploy/`` and ``devstack/``, in the hands of each tool.

The tools are in an environment of their own, which ``make deploy`` sets up.
Nothing is deployed: what a tool renders is read as cinder-api reads it.
"""
