"""Airflow's Hive hook as an operator uses it, with the context that Airflow sets before each query."""

import os

from airflow.providers.apache.hive.hooks.hive import HiveServer2Hook

from sections import HOST, PORT, section

os.environ.update({"AIRFLOW_CTX_DAG_ID": "nightly", "AIRFLOW_CTX_TASK_ID": "load", "AIRFLOW_CTX_DAG_OWNER": "ann, bob"})


def hook(port):
    os.environ["AIRFLOW_CONN_SLUICE"] = "hiveserver2://ann@%s:%d/default" % (HOST, port)
    return HiveServer2Hook(hiveserver2_conn_id="sluice")


def alone():
    """What Airflow sends before a query, and the query of a connection test."""
    print(hook(int(os.environ["QUIET_PORT"])).get_records("SELECT 1"))
    print(hook(int(os.environ["QUIET_PORT"])).get_records("SET airflow.ctx.dag_id"))


def records():
    h = hook(PORT)
    print(h.get_records("SELECT id, name FROM seen", schema="compat"))
    print(h.get_records(["SET airflow.ctx.task_id"]))
    print(h.get_results("SELECT id AS n FROM range(3)", hive_conf={"spark.sql.shuffle.partitions": "3"})["data"])
    print(h.get_df("SELECT id, name FROM seen", schema="compat").to_dict("records"))


def error():
    try:
        hook(PORT).get_records("SELECT * FROM no_such_table")
    except Exception as e:
        print("[TABLE_OR_VIEW_NOT_FOUND]" in str(e))


section("alone", alone)
section("records", records)
section("error", error)
