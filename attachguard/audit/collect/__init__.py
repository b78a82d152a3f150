# SPDX-License-Identifier: Apache-2.0
"""What an audit reads, and from where."""
