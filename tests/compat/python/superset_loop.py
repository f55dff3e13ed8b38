"""The loop of Superset's SQL Lab for Hive, over PyHive: poll, read the lines that are new, draw a bar from them with
Superset's expressions, fetch; and stop a query. Its states are the two that Superset takes for unfinished."""

import re
import time

from pyhive import hive

from sections import BUSY, ENDLESS, HOST, PORT, section

UNFINISHED = (hive.ttypes.TOperationState.INITIALIZED_STATE, hive.ttypes.TOperationState.RUNNING_STATE)
TOTAL = re.compile(r".*INFO.*Total jobs = (?P<max_jobs>[0-9]+)")
LAUNCHING = re.compile(r".*INFO.*Launching Job (?P<job_number>[0-9]+) out of (?P<max_jobs>[0-9]+)")
STAGE = re.compile(r".*INFO.*Stage-(?P<n>[0-9]+).*map = (?P<map>[0-9]+)%.*reduce = (?P<reduce>[0-9]+)%.*")


def bar(lines):
    total, current, stages = 1, 1, {}
    for line in lines:
        if m := TOTAL.match(line):
            total = int(m["max_jobs"]) or 1
        if m := LAUNCHING.match(line):
            current, total, stages = int(m["job_number"]), int(m["max_jobs"]) or 1, {}
        if m := STAGE.match(line):
            stages[m["n"]] = (int(m["map"]) + int(m["reduce"])) / 2
    done = sum(stages.values()) / len(stages) if stages else 0
    return int((100 * (current - 1) + done) / total)


def run(sql, stop=None):
    """Returns the cursor, the bar's places, and whether a URL was named."""
    cursor = hive.connect(host=HOST, port=PORT, username="ann", configuration={"hive.server2.proxy.user": "ann"}).cursor()
    cursor.execute(sql, async_=True)
    places, url = [], False
    while cursor.poll().operationState in UNFINISHED:
        lines = "\n".join(cursor.fetch_logs()).splitlines()
        if stop and any(stop in line for line in lines):
            cursor.cancel()
        place = bar(lines)
        if place > (places or [0])[-1]:
            places.append(place)
        url = url or any("Tracking URL = " in line for line in lines)
        time.sleep(0.2)  # Superset's HIVE_POLL_INTERVAL, shorter
    return cursor, places, url


def progress():
    cursor, places, url = run(BUSY)
    print(cursor.fetchall())
    print("moved", len(places) > 1, "within", all(0 < p <= 100 for p in places), "url", url)


def stopped():
    cursor, _, _ = run(ENDLESS, stop="Total jobs")
    state = cursor.poll()
    print(hive.ttypes.TOperationState._VALUES_TO_NAMES[state.operationState])


section("progress", progress)
section("stop", stopped)
