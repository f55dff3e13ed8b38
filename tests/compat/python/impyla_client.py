"""impyla, as a program uses it. Its cursors are sessions, and it sends the user of the operating system in OpenSession."""

import time

from impala.dbapi import connect as dial
from impala.error import Error

from sections import CA, ENDLESS, HOST, HTTP_PORT, PORT, TLS_HTTP_PORT, TLS_PORT, query, say_errors, say_pages, say_types, section, without_time


def connect(**more):
    return dial(**{"host": HOST, "port": PORT, "user": "ann", "password": "x", "auth_mechanism": "PLAIN", **more})


def link(**more):
    c = connect(database="compat", **more)
    cursor = c.cursor(configuration={"spark.sql.shuffle.partitions": "6"})
    cursor.ping()
    print(query(cursor, "SELECT current_database()"))
    print(query(cursor, "SET spark.sql.shuffle.partitions"))
    print(query(cursor, "SELECT 5 AS five, %(text)s AS t", {"text": "it's"}))
    print(query(cursor, "SET spark.sql.shuffle.partitions", configuration={"spark.sql.shuffle.partitions": "7"}))
    cursor.close()
    c.close()


def types():
    say_types(connect().cursor(configuration={"spark.sql.session.timeZone": "UTC"}))


def pages():
    cursor = connect().cursor()
    cursor.set_arraysize(100)
    say_pages(cursor)


def errors():
    say_errors(connect().cursor(), Error, lambda e: str(e).replace("\n", " ")[:200])


def cancel():
    cursor = connect().cursor()
    cursor.execute_async(ENDLESS)
    log = ""
    while "Stage " not in log:
        cursor.status()
        log += cursor.get_log()
    began = time.time()
    cursor.cancel_operation(reset_state=False)
    while cursor.is_executing():
        pass
    print(cursor.status(), time.time() - began < 20)
    print(query(cursor, "SELECT 2"))
    print("## log")
    for line in log.splitlines():
        if "Total jobs" in line or "Stage " in line:
            print(without_time(line))


def timeout():
    cursor = connect().cursor(configuration={"sluice.query_timeout": "2s"})
    try:
        cursor.execute(ENDLESS)
    except Error as e:
        print(str(e).replace("\n", " "))


def tls():
    for more in ({"port": TLS_PORT}, {"port": TLS_HTTP_PORT, "use_http_transport": True, "http_path": "cliservice"}):
        print(query(connect(use_ssl=True, ca_cert=CA, **more).cursor(), "SELECT 1"))


def metadata():
    cursor = connect().cursor()
    cursor.get_databases()
    print("databases", sorted(r[0] for r in cursor.fetchall() if r[0] in ("compat", "default")))
    print("exists", cursor.database_exists("compat"), cursor.database_exists("nowhere"), cursor.table_exists("seen", "compat"))
    cursor.get_tables("compat")
    print("tables", sorted(r[2] for r in cursor.fetchall() if r[2] in ("seen", "looked")))
    print("columns", cursor.get_table_schema("seen", "compat"))
    cursor.get_functions()
    print("functions", len(cursor.fetchall()) > 300)


section("connect", link)
section("types", types)
section("pages", pages)
section("errors", errors)
section("cancel", cancel)
section("metadata", metadata)
section("HTTP", lambda: link(port=HTTP_PORT, use_http_transport=True, http_path="cliservice"))
section("timeout", timeout)
section("TLS", tls)
