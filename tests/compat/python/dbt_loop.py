"""Runs dbt's commands on a project, each in a section: dbt_loop.py PROJECT COMMAND... A slash stands for a blank."""

import json
import os
import shutil
import sys
import tempfile

from dbt.cli.main import dbtRunner

from sections import section

def run(project, command):
    words = command.split("/")
    result = dbtRunner().invoke(["--quiet", "--no-use-colors", *words, "--project-dir", project, "--profiles-dir", project])
    if result.exception:
        raise result.exception
    print("success", result.success)
    for r in getattr(result.result, "results", None) or []:
        if hasattr(r, "node") and hasattr(r, "status"):
            print(r.node.name, str(r.status), r.message if r.status not in ("success", "pass") else "")
    if words[0] == "docs":
        with open(os.path.join(project, "target", "catalog.json")) as f:
            nodes = json.load(f)["nodes"]
        for name in sorted(nodes):
            print(name, [(c["name"], c["type"]) for c in nodes[name]["columns"].values()])


if __name__ == "__main__":  # dbt begins processes that read this file again
    project = shutil.copytree(sys.argv[1], os.path.join(tempfile.mkdtemp(), "project"))  # dbt writes beside its files
    for command in sys.argv[2:]:
        section(command, lambda: run(project, command))
    shutil.rmtree(os.path.dirname(project))
