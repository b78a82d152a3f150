# SPDX-License-Identifier: Apache-2.0
"""The WSGI filter: what it guards, how it decides, and how it responds."""
