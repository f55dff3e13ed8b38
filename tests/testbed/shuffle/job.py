"""A Spark job that moves rows through a shuffle, and proves that each of them has arrived once.

A row is an id and 62 numbers that no codec makes smaller: 516 bytes in a shuffle, so that --mb N moves about N MiB. What a
job computes is reduced to a count, an xor and a sum of a hash of each row. --verify computes the same from one partition,
where Spark needs no shuffle, and compares.

While it runs, DIR/progress.json says how many bytes were pushed and fetched. With --hold the job writes DIR/maps-done once
all maps have ended, and goes on when DIR/go is there. The last line of the output is a JSON object with the result. The exit
code is 1 if rows are wrong.
"""
import argparse
import json
import os
import statistics
import sys
import threading
import time
import urllib.request

from pyspark import SparkConf
from pyspark.sql import SparkSession, functions

COLUMNS = [f"c{i}" for i in range(62)]
ROW_BYTES = 516
HASH = f"xxhash64(id,{','.join(COLUMNS)}) h"


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--dir", required=True, help="directory of marks, progress and the event log")
    p.add_argument("--conf", required=True, help="JSON file with the settings of Spark")
    p.add_argument("--kind", choices=sorted(KINDS), default="repartition")
    p.add_argument("--mb", type=int, default=64)
    p.add_argument("--maps", type=int, default=4)
    p.add_argument("--reduces", type=int, default=8)
    p.add_argument("--takes", type=int, default=3, help="readers that the kind take closes early")
    p.add_argument("--hold", action="store_true", help="wait between maps and fetches; for repartition and take")
    p.add_argument("--verify", action="store_true")
    return p.parse_args()


def rows(spark, n, parts, salt=0):
    return spark.range(0, n, 1, parts).selectExpr("id", *[f"xxhash64(id, {i + salt}) {c}" for i, c in enumerate(COLUMNS)])


# Each kind is a query over n rows in a number of partitions, and the settings that it is about. Computed from one
# partition it needs no shuffle.

def repartition(spark, n, maps, reduces):
    source = rows(spark, n, maps)
    return source if maps == 1 else source.repartition(reduces, "id")


def ordered(spark, n, maps, reduces):
    # A number that depends on the place keeps Spark from leaving out a sort that the checksum does not need.
    return rows(spark, n, maps).sort("c0").selectExpr("*", "monotonically_increasing_id() place").where("place >= 0")


def aggregate(spark, n, maps, reduces):
    return rows(spark, n, maps).groupBy("id").agg(*[functions.max(c).alias(c) for c in COLUMNS])


def join(spark, n, maps, reduces):
    left, right = rows(spark, n // 2, maps).alias("l"), rows(spark, n // 2, maps, 100).alias("r")
    return left.join(right, "id").selectExpr("id", *[f"l.{c} ^ r.{c} {c}" for c in COLUMNS])


def skew(spark, n, maps, reduces):
    """Half of the rows have one key, which Spark splits by ranges of maps."""
    left = rows(spark, n, maps).selectExpr("*", "if(id % 2 = 0, 0, id) k")
    return left.join(spark.range(0, n, 1, maps).selectExpr("id k", "xxhash64(id, 99) d"), "k").selectExpr("id", "c0 ^ d c0", *COLUMNS[1:])


def mappers(spark, n, maps, reduces):
    """One side turns out to be small while the query runs, so that the other is read map by map."""
    right = rows(spark, n // 4, maps, 100).where("c1 % 64 = 0").selectExpr("id", "c0 d")
    return rows(spark, n, maps).join(right, "id").selectExpr("id", "c0 ^ d c0", *COLUMNS[1:])


ADAPTIVE = {
    "spark.sql.adaptive.enabled": "true", "spark.sql.adaptive.advisoryPartitionSizeInBytes": "1m",
    "spark.sql.adaptive.skewJoin.skewedPartitionThresholdInBytes": "1m", "spark.sql.adaptive.skewJoin.skewedPartitionFactor": "2",
}
KINDS = {
    "repartition": (repartition, {}), "take": (repartition, {}), "sort": (ordered, {}), "aggregate": (aggregate, {}), "join": (join, {}),
    "skew": (skew, ADAPTIVE),
    "mappers": (mappers, {**ADAPTIVE, "spark.sql.adaptive.autoBroadcastJoinThreshold": "32m", "spark.sql.adaptive.localShuffleReader.enabled": "true"}),
}

# What a plan says if Spark has done what a kind is about.
PROOF = {"sort": "rangepartitioning", "skew": "skewed", "mappers": "AQEShuffleRead local"}


def checksum(df):
    """The count, xor and sum of a query, and the plan that was run in the end."""
    sums = df.selectExpr(HASH).selectExpr("count(1)", "bit_xor(h)", "sum(h & 4294967295)")
    return tuple(sums.collect()[0]), sums._jdf.queryExecution().executedPlan().toString()


def fold(hashes):
    n = x = s = 0
    for (h,) in hashes:
        n, x, s = n + 1, x ^ h, s + (h & 4294967295)
    yield n, x, s


def in_steps(sc, df, a):
    """The same checksum by several jobs over one shuffle, whose maps the first of them runs."""
    rdd = df.selectExpr(HASH).rdd
    last = rdd.getNumPartitions() - 1
    parts = sc.runJob(rdd, fold, [last])
    if a.hold:
        mark(a.dir, "maps-done", "")
        while not os.path.exists(os.path.join(a.dir, "go")):
            time.sleep(0.05)
    if a.kind == "take":
        for _ in range(a.takes):
            rdd.take(1)
    parts += sc.runJob(rdd, fold, list(range(last)))
    x = 0
    for p in parts:
        x ^= p[1]
    return sum(p[0] for p in parts), x, sum(p[2] for p in parts)


def mark(directory, name, text):
    part = os.path.join(directory, "." + name)
    with open(part, "w") as f:
        f.write(text)
    os.rename(part, os.path.join(directory, name))


class Monitor(threading.Thread):
    """Asks Spark what its tasks have moved, several times a second: a task that moves nothing stands still."""

    PERIOD = 0.2

    def __init__(self, sc, directory):
        super().__init__(daemon=True)
        self.url = f"{sc.uiWebUrl}/api/v1/applications/{sc.applicationId}/stages?details=true"
        self.directory, self.ended = directory, threading.Event()
        self.moved, self.longest, self.of = {}, 0.0, ""

    def run(self):
        while not self.ended.wait(self.PERIOD):
            try:
                with urllib.request.urlopen(self.url, timeout=10) as r:
                    self.look(json.load(r))
            except OSError:
                if not self.ended.is_set():
                    raise

    def look(self, stages):
        now, running = time.monotonic(), {}
        for stage in stages:
            for task in (stage.get("tasks") or {}).values():
                if task.get("status") != "RUNNING":
                    continue
                name = f"task {task['taskId']} of stage {stage['stageId']}.{stage['attemptId']}"
                counts = counters(task.get("taskMetrics") or {})
                before = self.moved.get(name)
                running[name] = before if before and before[0] == counts else (counts, now)
                if now - running[name][1] > self.longest:
                    self.longest, self.of = now - running[name][1], name
        self.moved = running
        mark(self.directory, "progress.json", json.dumps({
            "pushed": sum(s["shuffleWriteBytes"] for s in stages), "fetched": sum(s["shuffleReadBytes"] for s in stages),
            "tasks": sum(s["numCompleteTasks"] for s in stages), "failed": sum(s["numFailedTasks"] for s in stages)}))


def counters(metrics):
    read, written = metrics.get("shuffleReadMetrics") or {}, metrics.get("shuffleWriteMetrics") or {}
    return tuple([read.get(k, 0) for k in ("recordsRead", "remoteBytesRead", "localBytesRead")]
                 + [written.get(k, 0) for k in ("bytesWritten", "recordsWritten")])


def stages(sc):
    """How many stages there have been."""
    tracker = sc.statusTracker()
    return 1 + max(s for j in tracker.getJobIdsForGroup() for s in tracker.getJobInfo(j).stageIds)


def told(directory, app, begin, end):
    """What the event log says of the stages of the query."""
    attempts, reasons, took, waits, writes = set(), {}, {}, [0], [0]
    with open(os.path.join(directory, "events", app)) as f:
        for line in f:
            e = json.loads(line)
            if e["Event"] != "SparkListenerTaskEnd" or not begin <= e["Stage ID"] < end:
                continue
            attempts.add((e["Stage ID"], e["Stage Attempt ID"]))
            info, metrics, reason = e["Task Info"], e.get("Task Metrics") or {}, e["Task End Reason"]["Reason"]
            reasons[reason] = reasons.get(reason, 0) + 1
            took.setdefault(e["Stage ID"], []).append(info["Finish Time"] - info["Launch Time"])
            waits.append((metrics.get("Shuffle Read Metrics") or {}).get("Fetch Wait Time", 0))
            writes.append((metrics.get("Shuffle Write Metrics") or {}).get("Shuffle Write Time", 0) // 1000000)
    reasons.pop("Success", None)
    return {
        "stages": len({s for s, _ in attempts}), "stage_attempts": len(attempts), "failed_tasks": sum(reasons.values()), "failures": reasons,
        "longest_task_ms": max((max(t) for t in took.values()), default=0),
        "longest_delay_ms": max((max(t) - int(statistics.median(t)) for t in took.values()), default=0),
        "longest_fetch_wait_ms": max(waits), "longest_write_ms": max(writes),
    }


def session(a):
    with open(a.conf) as f:
        conf = json.load(f)
    os.makedirs(os.path.join(a.dir, "events"), exist_ok=True)
    base = {
        "spark.app.name": "shuffle " + a.kind, "spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1",
        "spark.local.dir": os.path.join(a.dir, "local"), "spark.sql.warehouse.dir": os.path.join(a.dir, "warehouse"),
        "spark.ui.port": "0", "spark.ui.showConsoleProgress": "false", "spark.ui.liveUpdate.period": "100ms", "spark.ui.liveUpdate.minFlushPeriod": "100ms",
        "spark.executor.heartbeatInterval": "250ms",
        "spark.eventLog.enabled": "true", "spark.eventLog.dir": "file://" + os.path.join(a.dir, "events"),
        "spark.eventLog.rolling.enabled": "false", "spark.eventLog.compress": "false",
        "spark.sql.shuffle.partitions": str(a.reduces), "spark.sql.adaptive.enabled": "false", "spark.sql.autoBroadcastJoinThreshold": "-1",
    }
    return SparkSession.builder.config(conf=SparkConf().setAll({**base, **KINDS[a.kind][1], **conf}.items())).getOrCreate()


def main():
    a = arguments()
    if a.hold and a.kind not in ("repartition", "take"):
        sys.exit("--hold: only repartition and take run in steps")
    spark = session(a)
    sc = spark.sparkContext
    sc.setLogLevel("WARN")
    n, query = a.mb * (1 << 20) // ROW_BYTES, KINDS[a.kind][0]

    spark.range(0, 1000, 1, sc.defaultParallelism).selectExpr("sum(id)").first()  # executors are there then, and the classes loaded
    begin = stages(sc)
    monitor = Monitor(sc, a.dir)
    monitor.start()
    begun = time.monotonic()
    df = query(spark, n, a.maps, a.reduces)
    got, plan = (in_steps(sc, df, a), "") if a.hold or a.kind == "take" else checksum(df)
    wall = time.monotonic() - begun
    monitor.ended.set()
    monitor.join()
    out = {"kind": a.kind, "mb": a.mb, "app": sc.applicationId, "wall_s": round(wall, 2), "longest_stall_ms": int(monitor.longest * 1000), "stalled": monitor.of,
           "count": got[0], "xor": f"{got[1] & (2**64 - 1):016x}", "sum": got[2]}
    end = stages(sc)
    ok = got[0] > 0
    if PROOF.get(a.kind, "") not in plan:
        sys.exit(f"the plan should say {PROOF[a.kind]!r} of a {a.kind}, and does not:\n{plan}")
    if a.verify:
        alone = query(spark, n, 1, 1)
        if "Exchange" in alone._jdf.queryExecution().executedPlan().toString().replace("BroadcastExchange", ""):
            sys.exit("the comparison would shuffle, too")
        want, _ = checksum(alone)
        out["verified"] = ok = ok and want == got
        out["want"] = [want[0], f"{want[1] & (2**64 - 1):016x}", want[2]]
    app = sc.applicationId
    spark.stop()
    out.update(told(a.dir, app, begin, end))
    print(json.dumps(out), flush=True)
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
