"""What can happen to a record, as the journal calls it."""

from __future__ import annotations

APPLY, REVERSE, RECORD, ADOPT, PRUNE = "apply", "reverse", "record", "adopt", "prune"

# What was reversed in part is applied again, by a person.
MEND = "mend"
# Stored code that was removed, and no record.
PRUNE_CODE = "prune code"

# Those that add records, and those that remove them.
FORWARDS = {APPLY, RECORD}
BACKWARDS = {REVERSE, PRUNE}
