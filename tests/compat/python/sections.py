"""What the Python programs share: sections "## NAME" of lines, and what to run."""

import os
import re
import sys
import traceback

HOST, PORT, HTTP_PORT = os.environ["HS2_HOST"], int(os.environ["HS2_PORT"]), int(os.environ.get("HS2_HTTP_PORT", 0))
TYPES, PAGES, ENDLESS, BUSY = (os.environ.get("SQL_" + n) for n in ("TYPES", "PAGES", "ENDLESS", "BUSY"))
TLS_PORT, TLS_HTTP_PORT, CA = int(os.environ.get("TLS_PORT", 0)), int(os.environ.get("TLS_HTTP_PORT", 0)), os.environ.get("TLS_CA")
ERRORS = os.environ.get("SQL_ERRORS", "").split(";")


def section(name, step):
    print("##", name)
    try:
        step()
    except Exception as e:
        print("FAILED", repr(e)[:400])
        traceback.print_exc()
    sys.stdout.flush()


def without_time(line):
    return re.sub("^[0-9:]* ", "", line)


def first_words(status):
    """The SQLSTATE and the message of a Thrift status."""
    return "%s %s" % (status.sqlState, status.errorMessage.split("\n")[0])


def query(cursor, sql, *args, **more):
    cursor.execute(sql, *args, **more)
    return cursor.fetchall()


def say_types(cursor):
    rows = query(cursor, TYPES)
    print([(d[0], d[1]) for d in cursor.description])
    for row in rows:
        print(row)


def say_pages(cursor):
    rows = query(cursor, PAGES)
    print(len(rows), sum(r[0] or 0 for r in rows), [r[0] for r in rows[-3:]], rows[-1][1])


def say_errors(cursor, kind, words):
    """What the statements fail with, in the words that a program takes from an error of the driver's kind."""
    for sql in ERRORS:
        try:
            cursor.execute(sql)
            print("no error", len(cursor.fetchall()))
        except kind as e:
            print(words(e))
    print(query(cursor, "SELECT 'goes on'"))
