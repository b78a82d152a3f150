# SPDX-License-Identifier: Apache-2.0
"""Reports of an audit, in the forms that they are written in."""
