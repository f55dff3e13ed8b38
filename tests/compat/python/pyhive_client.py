"""PyHive, as a program uses it."""

import os
import ssl
import time

from pyhive import hive

from sections import ENDLESS, HOST, HTTP_PORT, PORT, TLS_HTTP_PORT, first_words, query, say_errors, say_pages, say_types, section, without_time

STATES = hive.ttypes.TOperationState


def connect(**more):
    return hive.connect(**{"host": HOST, "port": PORT, "username": "ann", **more})


def link(**more):
    with connect(database="compat", configuration={"spark.sql.shuffle.partitions": "6", "who": "py"}, **more) as c:
        cursor = c.cursor()
        print(query(cursor, "SELECT current_database(), '${who}'"))
        print(query(cursor, "SET spark.sql.shuffle.partitions"))
        print(query(cursor, "CREATE OR REPLACE TEMPORARY VIEW pv AS SELECT 5 AS five"))
        print(query(cursor, "SELECT five, %(text)s FROM pv", {"text": "it's"}))


def types():
    say_types(connect(configuration={"spark.sql.session.timeZone": "UTC"}).cursor())


def pages():
    say_pages(connect().cursor())


def errors():
    say_errors(connect().cursor(), hive.OperationalError, lambda e: first_words(e.args[0].status))


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
