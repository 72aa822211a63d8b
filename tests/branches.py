"""A repository in memory: branches of migration files that are valid in Django's eyes.

Each branch maps (app, name) to the file, in an order in which they can be applied.
What a branch may do next is found from Django's own project state. Numbers choose
among what is possible, so that hypothesis can make them smaller.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

from django.core.exceptions import FieldDoesNotExist
from django.db import migrations, models
from django.db.migrations.state import ModelState, ProjectState

Key = tuple[str, str]

APPS = ("blog", "shop", "users")

TEXT = """\
from django.db import migrations, models


def read_all(apps, schema_editor):
    # Fails if the state is not what the database has.
    for model in apps.get_models():
        if model._meta.app_label == "{label}":
            list(model.objects.using(schema_editor.connection.alias).all())


class Migration(migrations.Migration):
    replaces = {replaces}
    dependencies = {dependencies}

    operations = [
{operations}
    ]
"""


class File(NamedTuple):
    operations: tuple[str, ...]
    dependencies: tuple[Key, ...]
    replaces: tuple[Key, ...] = ()
    # What it does, under whichever name and on whichever branch.
    changes: frozenset[int] = frozenset()

    def text(self, label: str) -> str:
        return TEXT.format(
            label=label,
            replaces=list(self.replaces),
            dependencies=list(self.dependencies),
            operations="\n".join(f"        {text}," for text in self.operations),
        )


Files = dict[Key, File]


class Impossible(Exception):
    """No such history can be applied, or nobody would write it."""


def originals(files: Files) -> dict[Key, Key]:
    """What is replaced by a squash → that squash."""
    return {old: key for key, file in files.items() for old in file.replaces}


def in_force(files: Files) -> dict[Key, set[Key]]:
    """What is applied to a new database, and what each of these depends on."""
    squash_of = originals(files)
    found = {}
    for key, file in files.items():
        if key in squash_of:
            continue
        found[key] = {squash_of.get(need, need) for need in file.dependencies}
        if not found[key].issubset(files):
            raise Impossible(f"{key} depends on what is nowhere")
    return found


def in_order(files: Files) -> Files:
    """Those in force, each after what it depends on, the earlier written first."""
    graph = in_force(files)
    found: Files = {}
    while len(found) < len(graph):
        ready = [k for k in graph if k not in found and graph[k].issubset(found)]
        if not ready:
            raise Impossible("circular")
        found[ready[0]] = files[ready[0]]
    return found


def leaves(files: Files, label: str) -> list[Key]:
    graph = in_force(files)
    of_app = [key for key in graph if key[0] == label]
    return [key for key in of_app if not any(key in graph[k] for k in of_app)]


def without_squashes(files: Files) -> Files:
    """As Django sees them where a squash is applied in part: its originals count."""
    last = {
        key: file.replaces[-1]
        for key, file in files.items()
        if file.replaces and all(old in files for old in file.replaces)
    }
    return {
        key: file._replace(
            dependencies=tuple(last.get(need, need) for need in file.dependencies)
        )
        for key, file in files.items()
        if key not in last
    }


def needed_by(files: Files, key: Key) -> set[Key]:
    """All that the migration depends on, directly or not, in what is in force."""
    graph = in_force(files)
    found: set[Key] = set()
    pending = [originals(files).get(key, key)]
    while pending:
        more = graph[pending.pop()] - found
        found |= more
        pending += more
    return found


def state_of(files: Files) -> ProjectState:
    """Raises Impossible."""
    state = ProjectState()
    for (label, _), file in in_order(files).items():
        add_to(state, label, file.operations)
    return state


def add_to(state: ProjectState, label: str, operations: Collection[str]) -> None:
    for text in operations:
        names = {"migrations": migrations, "models": models, "read_all": print}
        operation = eval(text, names)  # noqa: S307
        if is_taken_without_a_word(state, label, operation):
            raise Impossible(f"{text} does not fit the state")
        try:
            operation.state_forwards(label, state)
        except (FieldDoesNotExist, LookupError) as error:
            raise Impossible(f"{text}: {error}") from error
        # What comes later in the same migration may hide it.
        check(state)


def is_taken_without_a_word(state: ProjectState, label: str, operation: Any) -> bool:
    """By Django's state, though no database would take it."""
    if isinstance(operation, migrations.CreateModel):
        return (label, operation.name_lower) in state.models
    if isinstance(operation, (migrations.AddField, migrations.AlterField)):
        model = state.models.get((label, operation.model_name_lower))
        is_new = isinstance(operation, migrations.AddField)
        return model is not None and (operation.name in model.fields) == is_new
    return False


def check(state: ProjectState) -> None:
    for (label, _), model in state.models.items():
        if not in_indexes(model).issubset(model.fields):
            raise Impossible(f"an index of {label}.{model.name} lacks its field")
        if not set(targets(model)).issubset(state.models):
            raise Impossible(f"a relation of {label}.{model.name} leads nowhere")


def in_indexes(model: ModelState) -> set[str]:
    options = model.options
    return {
        name
        for group in [
            *options.get("unique_together", ()),
            *(index.fields for index in options.get("indexes", ())),
            *(constraint.fields for constraint in options.get("constraints", ())),
        ]
        for name in group
    }


def targets(model: ModelState) -> Iterator[Key]:
    for field in model.fields.values():
        if field.remote_field:
            label, name = str(field.remote_field.model).lower().split(".")
            yield label, name


class Writer:
    """Writes operations that fit a state, and have names that are new."""

    def __init__(self) -> None:
        self.last = 0

    def new(self, prefix: str) -> str:
        self.last += 1
        return f"{prefix}{self.last}"

    def write(self, kind: str, state: ProjectState, label: str, pick: int) -> str:
        """The nearest that is possible."""
        found = KINDS[kind](self, state, label, pick)
        if found is None:
            found = self.add_integer(state, label, pick)
        return found or self.create(state, label, pick)

    # The first letter of a field's name says which kind it is.

    def create(self, state: ProjectState, label: str, pick: int) -> str:
        fields = ['("id", models.BigAutoField(primary_key=True))']
        if pick % 2:
            name = self.new("n")
            fields.append(f'("{name}", models.IntegerField(null=True))')
        name = self.new("M")
        return f'migrations.CreateModel("{name}", [{", ".join(fields)}])'

    def add_integer(self, state: ProjectState, label: str, pick: int) -> str | None:
        # Neither null nor default has any effect on what is unique.
        options = ("null=True", "default=1", "default=2, db_index=True")[pick % 3]
        return self._add(
            state, label, pick // 3, "n", f"models.IntegerField({options})"
        )

    def add_code(self, state: ProjectState, label: str, pick: int) -> str | None:
        # Never with a default, which would be the same for many.
        options = ("null=True, unique=True", "null=True")[pick % 2]
        return self._add(
            state, label, pick // 2, "c", f"models.IntegerField({options})"
        )

    def add_text(self, state: ProjectState, label: str, pick: int) -> str | None:
        field = 'models.CharField(max_length=20, default="x")'
        return self._add(state, label, pick, "t", field)

    def add_foreign_key(self, state: ProjectState, label: str, pick: int) -> str | None:
        target = chosen(sorted(state.models), pick)
        if target is None:
            return None
        field = f'models.ForeignKey("{".".join(target)}", models.CASCADE, null=True)'
        if pick % 3 == 0:
            field = field[:-1] + ', related_name="+")'
        return self._add(state, label, pick // 2, "r", self._unrelated(field))

    def add_many_to_many(
        self, state: ProjectState, label: str, pick: int
    ) -> str | None:
        target = chosen(sorted(state.models), pick)
        if target is None:
            return None
        field = f'models.ManyToManyField("{".".join(target)}")'
        return self._add(state, label, pick // 2, "m", self._unrelated(field))

    def _unrelated(self, field: str) -> str:
        """With no name at the other end, where many would meet."""
        if "related_name" in field:
            return field
        return field[:-1] + ', related_name="+")'

    def _add(
        self, state: ProjectState, label: str, pick: int, prefix: str, field: str
    ) -> str | None:
        model = chosen(models_of(state, label), pick)
        if model is None:
            return None
        return f'migrations.AddField("{model.name}", "{self.new(prefix)}", {field})'

    def add_separately(self, state: ProjectState, label: str, pick: int) -> str | None:
        added = self.add_integer(state, label, pick)
        if added is None:
            return None
        return (
            f"migrations.SeparateDatabaseAndState(database_operations=[{added}], "
            f"state_operations=[{added}])"
        )

    def remove(self, state: ProjectState, label: str, pick: int) -> str | None:
        found = chosen(free_fields(state, label), pick)
        if found is None:
            return None
        return f'migrations.RemoveField("{found[0]}", "{found[1]}")'

    def rename_field(self, state: ProjectState, label: str, pick: int) -> str | None:
        found = chosen(free_fields(state, label), pick)
        if found is None:
            return None
        model, name = found
        return f'migrations.RenameField("{model}", "{name}", "{self.new(name[0])}")'

    def alter(self, state: ProjectState, label: str, pick: int) -> str | None:
        found = chosen(fields_of(state, label, "nct"), pick)
        if found is None:
            return None
        model, name = found
        field: Any = state.models[label, model.lower()].fields[name]
        if name[0] == "n":
            new = "default=3" if field.null else "null=True"
        elif name[0] == "c":
            new = "null=True" if field.unique else "null=True, unique=True"
        else:
            new = f'max_length={20 + pick % 3 * 10}, default="{"xy"[pick % 2]}"'
            if not field.null and pick % 2:
                new = "max_length=20, null=True"
        kind = "CharField" if name[0] == "t" else "IntegerField"
        return f'migrations.AlterField("{model}", "{name}", models.{kind}({new}))'

    def rename_model(self, state: ProjectState, label: str, pick: int) -> str | None:
        model = chosen(models_of(state, label), pick)
        if model is None:
            return None
        return f'migrations.RenameModel("{model.name}", "{self.new("M")}")'

    def delete_model(self, state: ProjectState, label: str, pick: int) -> str | None:
        needed = {key for m in state.models.values() for key in targets(m)}
        # Django itself cannot reverse AddIndex and DeleteModel in one migration.
        free = [
            m
            for m in models_of(state, label)
            if (label, m.name.lower()) not in needed and not in_indexes(m)
        ]
        model = chosen(free, pick)
        return None if model is None else f'migrations.DeleteModel("{model.name}")'

    def add_index(self, state: ProjectState, label: str, pick: int) -> str | None:
        found = chosen(fields_of(state, label, "nct"), pick)
        if found is None:
            return None
        index = f'models.Index(fields=["{found[1]}"], name="{self.new("index_")}")'
        return f'migrations.AddIndex("{found[0]}", {index})'

    def remove_index(self, state: ProjectState, label: str, pick: int) -> str | None:
        model = chosen(
            [m for m in models_of(state, label) if m.options.get("indexes")], pick
        )
        if model is None:
            return None
        name = model.options["indexes"][0].name
        return f'migrations.RemoveIndex("{model.name}", "{name}")'

    # With the id, so that any rows fit.

    def unique_together(self, state: ProjectState, label: str, pick: int) -> str | None:
        found = chosen(fields_of(state, label, "nct"), pick)
        if found is None:
            return None
        model, name = found
        options = state.models[label, model.lower()].options
        new = "set()" if options.get("unique_together") else f'{{("id", "{name}")}}'
        return f'migrations.AlterUniqueTogether("{model}", {new})'

    def constrain(self, state: ProjectState, label: str, pick: int) -> str | None:
        found = chosen(fields_of(state, label, "nct"), pick)
        if found is None:
            return None
        name = self.new("constraint_")
        what = f'models.UniqueConstraint(fields=["id", "{found[1]}"], name="{name}")'
        return f'migrations.AddConstraint("{found[0]}", {what})'

    def run_python(self, state: ProjectState, label: str, pick: int) -> str:
        return "migrations.RunPython(read_all, read_all)"


KINDS: dict[str, Callable[[Writer, ProjectState, str, int], str | None]] = {
    "add_integer": Writer.add_integer,
    "create": Writer.create,
    "add_code": Writer.add_code,
    "add_text": Writer.add_text,
    "add_foreign_key": Writer.add_foreign_key,
    "add_many_to_many": Writer.add_many_to_many,
    "add_separately": Writer.add_separately,
    "remove": Writer.remove,
    "rename_field": Writer.rename_field,
    "alter": Writer.alter,
    "rename_model": Writer.rename_model,
    "delete_model": Writer.delete_model,
    "add_index": Writer.add_index,
    "remove_index": Writer.remove_index,
    "unique_together": Writer.unique_together,
    "constrain": Writer.constrain,
    "run_python": Writer.run_python,
}


def chosen(things: Any, pick: int) -> Any:
    return things[pick % len(things)] if things else None


def models_of(state: ProjectState, label: str) -> list[Any]:
    return [state.models[key] for key in sorted(state.models) if key[0] == label]


def fields_of(state: ProjectState, label: str, kinds: str) -> list[tuple[str, str]]:
    return [
        (model.name, name)
        for model in models_of(state, label)
        for name in model.fields
        if name != "id" and name[0] in kinds
    ]


def free_fields(state: ProjectState, label: str) -> list[tuple[str, str]]:
    """Those that can go or be renamed: no index has them."""
    return [
        (model, name)
        for model, name in fields_of(state, label, "nctrm")
        if name not in in_indexes(state.models[label, model.lower()])
    ]


# What one migration is made of: kinds of operations, and numbers that choose.
Changes = list[tuple[str, int]]


class Repository:
    def __init__(self) -> None:
        self.writer = Writer()
        self.changes = 0
        self.branches: dict[str, Files] = {"main": {}}
        self.current = "main"
        # Of all branches at all times.
        self.squashes: dict[Key, set[Key]] = {}
        self.counts: Counter[str] = Counter()

    @property
    def files(self) -> Files:
        return self.branches[self.current]

    def others(self) -> list[str]:
        return [name for name in self.branches if name != self.current]

    def put(self, files: Files) -> None:
        """Raises Impossible, and leaves the branch as it was."""
        if state_of(files) != state_of(dict(reversed(files.items()))):
            raise Impossible("it depends on what comes first")
        if any(len(leaves(without_squashes(files), label)) > 1 for label in APPS):
            raise Impossible("two leaves where a squash is applied in part")
        self.branches[self.current] = files

    def commit(self, label: str, changes: Changes, title: str, needs: str) -> None:
        """With no title, one of its own."""
        files = self.files
        state = state_of(files)
        dependencies = leaves(files, label)
        if needs != label and changes:
            dependencies += leaves(files, needs)
        file = self._write(label, state, changes, dependencies)
        name = self._name(label, title or self.writer.new("do_"))
        self.put({**files, (label, name): file})

    def _write(
        self,
        label: str,
        state: ProjectState,
        changes: Changes,
        dependencies: Collection[Key],
    ) -> File:
        """Changes the state."""
        needs = dict.fromkeys(dependencies)
        operations = []
        for kind, pick in changes:
            text = self.writer.write(kind, state, label, pick)
            add_to(state, label, [text])
            operations.append(text)
            self.counts[text.partition("(")[0]] += 1
            for app in APPS:
                # Those that others refer to, or that may come before what does.
                if app != label and (
                    f'"{app}.' in text or ("Model(" in text and "Create" not in text)
                ):
                    needs.update(dict.fromkeys(leaves(self.files, app)))
        self.changes += 1
        return File(tuple(operations), tuple(needs), (), frozenset([self.changes]))

    def _name(self, label: str, title: str) -> str:
        numbers = [int(name[:4]) for app, name in self.files if app == label]
        return f"{max(numbers, default=0) + 1:04}_{title}"

    def branch(self) -> None:
        name = f"branch_{len(self.branches)}"
        self.branches[name] = dict(self.files)
        self.current = name

    def _both(self, name: str) -> tuple[Files, Files]:
        """Ours and theirs. What one squashed and deleted, the other has no more."""
        ours, theirs = self.files, self.branches[name]
        if any(ours[key] != theirs[key] for key in ours if key in theirs):
            raise Impossible("both have the file, and it differs")
        deleted = self._deleted(ours) | self._deleted(theirs)
        return without(ours, deleted), without(theirs, deleted)

    def _deleted(self, files: Files) -> set[Key]:
        return {
            old
            for squash, originals in self.squashes.items()
            if squash in files
            for old in originals
            if old not in files
        }

    def merge(self, name: str) -> None:
        ours, theirs = self._both(name)
        one, other = {**ours, **theirs}, {**theirs, **ours}
        merged = one
        for label in APPS:
            ends = leaves(one, label)
            if len(ends) > 1:
                numbers = [int(name[:4]) for app, name in one if app == label]
                key = label, f"{max(numbers) + 1:04}_{self.writer.new('merge_')}"
                merged = {**merged, key: File((), tuple(ends))}
        if merged == self.files:
            raise Impossible("nothing to merge")
        if state_of(one) != state_of(other):
            raise Impossible("it depends on whose comes first")
        self.put(merged)

    def rebase(self, name: str, *, renumber: bool) -> None:
        """Ours come after theirs, with other numbers or by their dependencies alone."""
        ours, theirs = self._both(name)
        mine = {key: file for key, file in ours.items() if key not in theirs}
        if len(ours) - len(mine) == len(theirs):
            raise Impossible("nothing to rebase on")
        if any(file.replaces for file in mine.values()):
            raise Impossible("squashed")
        done = dict(theirs)
        renamed: dict[Key, Key] = {}
        for (label, old), file in mine.items():
            numbers = [int(name[:4]) for app, name in done if app == label]
            new = label, f"{max(numbers, default=0) + 1:04}{old[4:]}"
            if not renumber and (label, old) not in done:
                new = label, old
            needs = [renamed.get(need, need) for need in file.dependencies]
            if not any(app == label and (app, n) in mine for app, n in needs):
                needs = [need for need in needs if need[0] != label]
                needs += [k for k in leaves(done, label) if k not in needs]
            # In the order in which they were written, though others call it so.
            needs = [renamed.get(need, need) for need in needs]
            renamed[label, old] = new
            done[new] = file._replace(dependencies=tuple(dict.fromkeys(needs)))
        if any(len(leaves(done, label)) > 1 for label in APPS):
            raise Impossible("two leaves")
        self.put(done)

    def rename(self, label: str, title: str, *, ahead: int) -> None:
        """The last one of an app."""
        (old,) = leaves(self.files, label)
        if self.files[old].replaces or not self.files[old].changes:
            raise Impossible("no such migration")
        new = (
            label,
            f"{int(old[1][:4]) + ahead:04}_{title or self.writer.new('called_')}",
        )
        if new in self.files:
            raise Impossible("there is one of that name")
        self.put(with_renamed(self.files, {old: new}))

    def edit(self, label: str, changes: Changes, back: int) -> None:
        """One of the last of an app. Fails if what comes later does not go with it."""
        files = self.files
        of_app = [key for key in in_order(files) if key[0] == label]
        key = of_app[-1 - back % len(of_app)]
        if files[key].replaces or not files[key].changes or key in originals(files):
            raise Impossible("no such migration")
        needed = needed_by(files, key)
        before = {k: file for k, file in in_order(files).items() if k in needed}
        try:
            self.branches[self.current] = before
            state = state_of(before)
            edited = self._write(label, state, changes, files[key].dependencies)
        finally:
            self.branches[self.current] = files
        self.put({k: edited if k == key else file for k, file in files.items()})

    def squash(self, label: str, start: int, length: int) -> None:
        files = self.files
        if any(file.replaces for key, file in files.items() if key[0] == label):
            raise Impossible("one at a time")
        of_app = [key for key in in_order(files) if key[0] == label]
        start = start % len(of_app) if of_app else 0
        run = of_app[start : start + length]
        if len(run) < 2:
            raise Impossible("too short")
        for before, key in zip(run, run[1:]):
            if before not in files[key].dependencies:
                raise Impossible("no chain")
        outside = {
            need: None
            for key in run
            for need in files[key].dependencies
            if need not in run
        }
        for need in outside:
            if needed_by(files, need).intersection(run):
                raise Impossible("circular")
        squash = File(
            tuple(text for key in run for text in files[key].operations),
            tuple(outside),
            tuple(run),
            frozenset().union(*(files[key].changes for key in run)),
        )
        name = f"{run[0][1][:4]}_{self.writer.new('squashed_')}"
        self.put({**files, (label, name): squash})
        self.squashes[label, name] = set(run)

    def finish_squash(self, label: str) -> None:
        """The next stage: its originals are deleted, then its `replaces`."""
        files = self.files
        for key, file in files.items():
            if key[0] != label or not file.replaces:
                continue
            if any(old in files for old in file.replaces):
                left = {k: f for k, f in files.items() if k not in file.replaces}
                self.put(with_renamed(left, dict.fromkeys(file.replaces, key), (key,)))
            else:
                self.put({**files, key: file._replace(replaces=())})
            return
        raise Impossible("no squash")


def without(files: Files, keys: Collection[Key]) -> Files:
    return {key: file for key, file in files.items() if key not in keys}


def with_renamed(
    files: Files, new_names: Mapping[Key, Key], but_not: Collection[Key] = ()
) -> Files:
    renamed = {}
    for key, file in files.items():
        if key not in but_not:
            needs = [new_names.get(need, need) for need in file.dependencies]
            file = file._replace(dependencies=tuple(dict.fromkeys(needs)))
        renamed[new_names.get(key, key)] = file
    return renamed
