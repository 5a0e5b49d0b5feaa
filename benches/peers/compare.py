"""Fills PostgreSQL and SQLite with events, asks them the questions that The Eye was asked, and prints one table.

run.sh prepares all of it. A peer is a class with `name`, `fill(rows)` and `ask(kind, question)`, which returns how many rows
or events came: another one is another class, and a line in main().
"""

import argparse
import io
import json
import re
import sqlite3
import sys
import time
from itertools import islice

WORD = re.compile(r"[0-9a-z]+")
ROUNDS = 2
KINDS = [
    ("q1 rare word, newest 20", "rare"),
    ("q2 frequent word, newest 20", "frequent"),
    ("q3 phrase, newest 20", "phrases"),
    ("q4 field and time range, newest 20", "ranged"),
    ("q5 a session in order", "sessions"),
    ("q6 histogram by hour of a frequent word", "frequent"),
    ("q7 top ten values, of a frequent word", "frequent"),
    ("q8 count by name, of a frequent word", "frequent"),
]


def strings(value):
    """Every string in a value, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)
    elif isinstance(value, dict):
        for one in value.values():
            yield from strings(one)


def rows(path, count):
    """Events as (session, category, name, data as text, timestamp, path, the words of all strings)."""
    with open(path, encoding="utf-8") as lines:
        for line in islice(lines, count):
            event = json.loads(line)
            # A word that stands nowhere, so that no phrase goes from one string into the next.
            parts = [event["category"], event["name"], *strings(event["data"])]
            words = " zzbreakzz ".join(" ".join(WORD.findall(part.lower())) for part in parts)
            data = json.dumps(event["data"], separators=(",", ":"))
            yield (event["session_id"], event["category"], event["name"], data, event["timestamp"],
                   event["data"].get("path"), words)


def escaped(match):
    """A character as COPY wants it."""
    return {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}[match.group()]


class Postgres:
    """Words in a GIN index, path with time and session with time in B-trees: the indexes that its users would make."""

    def __init__(self, where):
        import psycopg2
        self.connection = psycopg2.connect(where)
        self.connection.autocommit = True
        self.cursor = self.connection.cursor()
        self.cursor.execute("SHOW server_version")
        self.name = "PostgreSQL " + self.cursor.fetchone()[0].split()[0]

    def fill(self, events):
        self.cursor.execute("""
            SET timezone = 'UTC';
            CREATE TABLE arrived (number bigint, session_id uuid, category text, name text, data jsonb, ts timestamptz, words text)""")
        events = enumerate(events, 1)
        while batch := list(islice(events, 20_000)):
            lines = io.StringIO()
            for number, (session, category, name, data, timestamp, _, words) in batch:
                fields = (str(number), session, category, name, data, timestamp, words)
                lines.write("\t".join(re.sub(r"[\\\t\n\r]", escaped, field) for field in fields) + "\n")
            lines.seek(0)
            self.cursor.copy_expert("COPY arrived FROM STDIN", lines)
        # The indexes afterwards: only asking is compared here.
        self.cursor.execute("""
            CREATE TABLE event AS SELECT number AS id, session_id, category, name, data, ts, to_tsvector('simple', words) AS words
                FROM arrived ORDER BY number;
            DROP TABLE arrived;
            ALTER TABLE event ADD PRIMARY KEY (id);
            CREATE INDEX ON event USING gin (words);
            CREATE INDEX ON event (session_id, ts);
            CREATE INDEX ON event ((data->>'path'), ts);
            CREATE INDEX ON event (ts)""")
        self.cursor.execute("VACUUM ANALYZE event")

    def ask(self, kind, question):
        newest = "SELECT id, session_id, category, name, data, ts FROM event WHERE {} ORDER BY ts DESC, id DESC LIMIT 20"
        word = question["word"] if isinstance(question, dict) and "word" in question else question
        sql, values = {
            "q1": (newest.format("words @@ plainto_tsquery('simple', %s)"), (word,)),
            "q2": (newest.format("words @@ plainto_tsquery('simple', %s)"), (word,)),
            "q3": (newest.format("words @@ phraseto_tsquery('simple', %s)"), (word,)),
            "q4": (newest.format("data->>'path' = %s AND ts >= %s AND ts < %s"),
                   (question["value"], question["from"], question["to"]) if kind == "q4" else ()),
            "q5": ("SELECT id, session_id, category, name, data, ts FROM event WHERE session_id = %s ORDER BY ts, id LIMIT 100",
                   (word,)),
            "q6": ("SELECT date_trunc('hour', ts), count(*) FROM event WHERE words @@ plainto_tsquery('simple', %s) GROUP BY 1",
                   (word,)),
            "q7": ("SELECT data->>'path', count(*) FROM event WHERE words @@ plainto_tsquery('simple', %s) "
                   "GROUP BY 1 ORDER BY 2 DESC LIMIT 10", (word,)),
            "q8": ("SELECT name, count(*) FROM event WHERE words @@ plainto_tsquery('simple', %s) GROUP BY 1", (word,)),
        }[kind]
        self.cursor.execute(sql, values)
        return len(self.cursor.fetchall())


class Sqlite:
    """FTS5 with the words, and B-trees as PostgreSQL has."""

    def __init__(self, path):
        self.connection = sqlite3.connect(path)
        self.name = "SQLite " + sqlite3.sqlite_version + " FTS5"

    def fill(self, events):
        run = self.connection.execute
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA cache_size = -1000000")
        run("CREATE TABLE event (id INTEGER PRIMARY KEY, session_id TEXT, category TEXT, name TEXT, data TEXT, ts TEXT, path TEXT)")
        run("CREATE VIRTUAL TABLE words USING fts5(text, content='', tokenize='ascii')")
        run("CREATE INDEX by_session ON event (session_id, ts)")
        run("CREATE INDEX by_path ON event (path, ts)")
        run("CREATE INDEX by_time ON event (ts)")
        number = 0
        events = iter(events)
        while batch := list(islice(events, 5000)):
            numbered = list(enumerate(batch, number + 1))
            self.connection.executemany("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?)",
                                        [(n, *row[:6]) for n, row in numbered])
            self.connection.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", [(n, row[6]) for n, row in numbered])
            self.connection.commit()
            number += len(batch)
        run("ANALYZE")

    def ask(self, kind, question):
        word = question["word"] if isinstance(question, dict) and "word" in question else question
        found = "id IN (SELECT rowid FROM words WHERE words MATCH ?)"
        newest = "SELECT * FROM event WHERE {} ORDER BY ts DESC, id DESC LIMIT 20"
        plain = lambda text: text.replace("T", " ").rstrip("Z")
        sql, values = {
            "q1": (newest.format(found), (f'"{word}"',)),
            "q2": (newest.format(found), (f'"{word}"',)),
            "q3": (newest.format(found), (f'"{word}"',)),
            "q4": (newest.format("path = ? AND ts >= ? AND ts < ?"),
                   (question["value"], plain(question["from"]), plain(question["to"])) if kind == "q4" else ()),
            "q5": ("SELECT * FROM event WHERE session_id = ? ORDER BY ts, id LIMIT 100", (word,)),
            "q6": (f"SELECT substr(ts, 1, 13), count(*) FROM event WHERE {found} GROUP BY 1", (f'"{word}"',)),
            "q7": (f"SELECT path, count(*) FROM event WHERE {found} GROUP BY 1 ORDER BY 2 DESC LIMIT 10", (f'"{word}"',)),
            "q8": (f"SELECT name, count(*) FROM event WHERE {found} GROUP BY 1", (f'"{word}"',)),
        }[kind]
        return len(self.connection.execute(sql, values).fetchall())


def measure(peer, questions):
    """p50 and p95 in ms, and the median number of rows, by kind of question. The first round is not counted."""
    figures = {}
    for name, source in KINDS:
        kind, took, found = name[:2], [], []
        for round_ in range(ROUNDS + 1):
            for question in questions[source]:
                began = time.perf_counter()
                count = peer.ask(kind, question)
                if round_:
                    took.append((time.perf_counter() - began) * 1000)
                else:
                    found.append(count)
        took.sort()
        found.sort()
        figures[name] = (took[len(took) // 2], took[len(took) * 95 // 100], found[len(found) // 2])
        print(f"  {peer.name}: {name}: {figures[name][0]:.2f} / {figures[name][1]:.2f} ms", file=sys.stderr)
    return figures


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    for name in ("--events", "--questions", "--postgres", "--sqlite"):
        arguments.add_argument(name, required=True)
    arguments.add_argument("--count", type=int, default=1_000_000)
    arguments.add_argument("--out", default="-")
    given = arguments.parse_args()
    with open(given.questions, encoding="utf-8") as file:
        questions = json.load(file)
    columns = [("The Eye, over HTTP", {name: (row["p50"], row["p95"], row["hits"]) for name, row in questions["figures"].items()})]
    for peer in (Postgres(given.postgres), Sqlite(given.sqlite)):
        began = time.perf_counter()
        peer.fill(rows(given.events, given.count))
        print(f"  {peer.name}: filled in {time.perf_counter() - began:.0f} s", file=sys.stderr)
        columns.append((peer.name, measure(peer, questions)))
    lines = ["| p50 / p95, ms | " + " | ".join(name for name, _ in columns) + " |",
             "| --- |" + " ---: |" * len(columns)]
    for name, _ in KINDS:
        cells = [f"{figures[name][0]:.2f} / {figures[name][1]:.2f}" for _, figures in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    table = "\n".join(lines) + "\n"
    if given.out != "-":
        with open(given.out, "w", encoding="utf-8") as file:
            file.write(table)
    print(table)


if __name__ == "__main__":
    main()
