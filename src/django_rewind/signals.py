"""What `rewind` sends. All three give `using`, the alias, and `run`, the run's id."""

from __future__ import annotations

from django.dispatch import Signal

# Before the first statement, and after all went well. With `plan`: the migrations to
# reverse, in that order, and `adoptions`: old key → new key.
pre_rewind = Signal()
post_rewind = Signal()

# After each migration that was reversed. With `migration` and `fake`.
migration_rewound = Signal()
