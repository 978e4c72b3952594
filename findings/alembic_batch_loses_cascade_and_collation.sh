#!/usr/bin/env bash
# Alembic's batch mode changes a SQLite table by making a new one like it. What the new one has is read by SQLAlchemy,
# which sees neither a column's collation nor the ON DELETE and ON UPDATE of a key that is written beside its column.
# The second is what Alembic writes itself, with op.add_column(..., inline_references=True), the one way in which SQLite
# adds such a column without making a new table. A migration that only drops a column of notes so lets ADA in beside Ada
# and takes the cascade off a foreign key, without a warning, as there is one where a CHECK is left out.
#
# Seen with alembic 1.20.1, SQLAlchemy 2.1.9 and Python 3.11. The script fails where that is no longer so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet alembic==1.20.1 SQLAlchemy==2.1.9

cat > "$work/drop_notes.py" <<'PYTHON'
import sys
import warnings

import alembic
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

warnings.simplefilter("error")


def answer(connection, statement) -> str:
    try:
        connection.exec_driver_sql(statement)
    except sa.exc.IntegrityError as error:
        return f"refused: {error.orig}"
    return "done"


def people(without_notes) -> dict[str, object]:
    with sa.create_engine("sqlite://").connect() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys = ON")
        op = Operations(MigrationContext.configure(connection))
        op.create_table("team", sa.Column("id", sa.Integer, primary_key=True))
        op.create_table(
            "person",
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("name", sa.String(collation="NOCASE"), unique=True),
            sa.Column("notes", sa.String),
        )
        team = sa.Column("team_id", sa.Integer, sa.ForeignKey("team.id", ondelete="CASCADE"))
        op.add_column("person", team, inline_references=True)
        if without_notes:
            with op.batch_alter_table("person") as batch:
                batch.drop_column("notes")
        answer(connection, "INSERT INTO team (id) VALUES (1)")
        answer(connection, "INSERT INTO person (name, team_id) VALUES ('Ada', 1)")
        return {
            "a second person, ADA": answer(connection, "INSERT INTO person (name, team_id) VALUES ('ADA', 1)"),
            "the team is deleted": answer(connection, "DELETE FROM team"),
            "persons who are left": connection.exec_driver_sql("SELECT count(*) FROM person").scalar(),
        }


before, after = people(without_notes=False), people(without_notes=True)
print(f"alembic {alembic.__version__}, SQLAlchemy {sa.__version__}")
for what in before:
    print(f"{what}: {before[what]}; without the column of notes: {after[what]}")
sys.exit(
    list(before.values()) != ["refused: UNIQUE constraint failed: person.name", "done", 0]
    or list(after.values()) != ["done", "refused: FOREIGN KEY constraint failed", 2]
)
PYTHON

"$work/venv/bin/python" "$work/drop_notes.py" || { echo "Alembic behaves otherwise than this file says" >&2; exit 1; }
