"""PyHive, as a program uses it."""

import os
import ssl
import time

from pyhive import hive

from sections import ENDLESS, ERRORS, HOST, HTTP_PORT, PAGES, PORT, TLS_HTTP_PORT, TYPES, first_words, section, without_time

STATES = hive.ttypes.TOperationState


def connect(**more):
    return hive.connect(**{"host": HOST, "port": PORT, "username": "ann", **more})


def query(cursor, sql, *args):
    cursor.execute(sql, *args)
    return cursor.fetchall()


def link(**more):
    with connect(database="compat", configuration={"spark.sql.shuffle.partitions": "6", "who": "py"}, **more) as c:
        cursor = c.cursor()
        print(query(cursor, "SELECT current_database(), '${who}'"))
        print(query(cursor, "SET spark.sql.shuffle.partitions"))
        print(query(cursor, "CREATE OR REPLACE TEMPORARY VIEW pv AS SELECT 5 AS five"))
        print(query(cursor, "SELECT five, %(text)s FROM pv", {"text": "it's"}))


def types():
    cursor = connect(configuration={"spark.sql.session.timeZone": "UTC"}).cursor()
    rows = query(cursor, TYPES)
    print([(d[0], d[1]) for d in cursor.description])
    for row in rows:
        print(row)


def pages():
    rows = query(connect().cursor(), PAGES)
    print(len(rows), sum(r[0] or 0 for r in rows), [r[0] for r in rows[-3:]], rows[-1][1])


def errors():
    cursor = connect().cursor()
    for sql in ERRORS:
        try:
            cursor.execute(sql)
            print("no error", len(cursor.fetchall()))
        except hive.OperationalError as e:
            print(first_words(e.args[0].status))
    print(query(cursor, "SELECT 'goes on'"))


def cancel():
    cursor = connect().cursor()
    cursor.execute(ENDLESS, async_=True)
    lines = []
    while not any("Stage " in line for line in lines):
        cursor.poll()
        lines += cursor.fetch_logs()
    began = time.time()
    cursor.cancel()
    while cursor.poll().operationState == STATES.RUNNING_STATE:
        pass
    print(STATES._VALUES_TO_NAMES[cursor.poll().operationState], time.time() - began < 20)
    print(query(cursor, "SELECT 2"))
    print("## log")
    for line in lines:
        if "Total jobs" in line or "Stage " in line:
            print(without_time(line))


def timeout():
    cursor = connect(configuration={"sluice.query_timeout": "2s"}).cursor()
    try:
        cursor.execute(ENDLESS)
    except hive.OperationalError as e:
        print(first_words(e.args[0].status))


def tls():
    """Over HTTP; PyHive has no TLS on the binary port. Whom it trusts is told by SSL_CERT_FILE."""
    for trusted in (True, False):
        if not trusted:
            del os.environ["SSL_CERT_FILE"]
        try:
            with connect(port=TLS_HTTP_PORT, scheme="https", ssl_cert="required", password="x", auth="BASIC") as c:
                print(query(c.cursor(), "SELECT 1"))
        except ssl.SSLError:
            print("refused")


section("connect", link)
section("types", types)
section("pages", pages)
section("errors", errors)
section("cancel", cancel)
section("HTTP", lambda: link(port=HTTP_PORT, scheme="http", password="x", auth="BASIC"))
section("timeout", timeout)
section("TLS", tls)
