# SPDX-License-Identifier: Apache-2.0
"""What the log of decisions shows: who is refused, and by which rules."""
