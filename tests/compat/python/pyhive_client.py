"""Runs a session with PyHive and prints what a program sees: python pyhive_client.py HOST PORT MODE"""

import sys
import time

from pyhive import hive

host, port, mode = sys.argv[1], int(sys.argv[2]), sys.argv[3]


def connect(**more):
    return hive.connect(host=host, port=port, username="ann", **more)


def query(cursor, sql):
    cursor.execute(sql)
    return cursor.fetchall()


def types():
    cursor = connect(configuration={"spark.sql.session.timeZone": "UTC"}).cursor()
    rows = query(cursor, sys.argv[4])
    print([(d[0], d[1]) for d in cursor.description])
    for row in rows:
        print(row)


def session():
    cursor = connect(database="compat", configuration={"spark.sql.shuffle.partitions": "6", "who": "py"}).cursor()
    print(query(cursor, "SELECT current_database(), '${who}'"))
    print(query(cursor, "SET spark.sql.shuffle.partitions"))
    print(query(cursor, "CREATE OR REPLACE TEMPORARY VIEW pv AS SELECT 5 AS five"))
    print(query(cursor, "SELECT * FROM pv"))
    print(len(query(cursor, "SELECT IF(id >= 999, NULL, id) FROM range(1001)")))
    try:
        cursor.execute("SELECT * FROM no_such_table")
    except hive.OperationalError as e:
        status = e.args[0].status
        print(status.sqlState, status.errorMessage.split("]")[0] + "]")


def asynchronous():
    cursor = connect().cursor()
    cursor.execute("SELECT count(DISTINCT id % 1000) FROM range(0, 40000000, 1, 8)", async_=True)
    states, logs = set(), []
    while True:
        state = cursor.poll().operationState
        states.add(hive.ttypes.TOperationState._VALUES_TO_NAMES[state])
        logs += cursor.fetch_logs()
        if state not in (hive.ttypes.TOperationState.INITIALIZED_STATE, hive.ttypes.TOperationState.RUNNING_STATE):
            break
    print(sorted(states), cursor.fetchall(), any("Stage " in line for line in logs))
    cursor.execute(sys.argv[4], async_=True)
    while not any("Stage " in line for line in cursor.fetch_logs()):
        cursor.poll()
    began = time.time()
    cursor.cancel()
    while cursor.poll().operationState == hive.ttypes.TOperationState.RUNNING_STATE:
        pass
    print(hive.ttypes.TOperationState._VALUES_TO_NAMES[cursor.poll().operationState], time.time() - began < 2)


{"types": types, "session": session, "async": asynchronous}[mode]()
