#!/usr/bin/env bash
# Ray 2.60.0 on Linux: the priority of tasks and actors, and of the programs that these start.
#
# Expected: that of `ray start` or of the program that calls ray.init(), as child processes have it; and num_cpus=1 is
# worth one CPU.
# Seen (CPython 3.11): each of them is 15 nicer, and so is every process that they start; the driver stays as it
# was. Beside any busy process of the same CPU that is about 3 of 100 parts of its time: what is fast on a
# machine of its own starves on one with a database, a build or another server, and `ray status` counts a whole CPU
# for it. Who is not root cannot take it back from within; RAY_worker_niceness=0 in the environment of each node's start
# does.
#
# We set it wherever we start or describe a node (`wiring/fleet.py`, docs/guides/ray.md, deploy/kubernetes/ray), since
# other work on the machine should wait no less for a picture than a picture for it.
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ray==2.60.0
cat > "$folder/main.py" <<'PY'
import os
import subprocess
import sys

import ray

ASK = [sys.executable, "-c", "import os; print(os.nice(0))"]


@ray.remote
def task() -> tuple[int, int]:
    return os.nice(0), int(subprocess.check_output(ASK))


@ray.remote
class Actor:
    def asked(self) -> tuple[int, int]:
        return os.nice(0), int(subprocess.check_output(ASK))


ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error", _temp_dir=sys.argv[1])
print(os.nice(0), *ray.get(task.remote()), *ray.get(Actor.remote().asked.remote()))
ray.shutdown()
PY
export HOME="$folder" RAY_USAGE_STATS_ENABLED=0
mine=$(nice)
unset RAY_worker_niceness
found=$("$folder/venv/bin/python" "$folder/main.py" "$folder/one" | tail -1)
other=$(RAY_worker_niceness=0 "$folder/venv/bin/python" "$folder/main.py" "$folder/two" | tail -1)
echo "niceness of this shell $mine; of driver, task, its child, actor, its child: $found; with RAY_worker_niceness=0: $other"
nicer=$((mine + 15 > 19 ? 19 : mine + 15))
if [ "$found" != "$mine $nicer $nicer $nicer $nicer" ] || [ "$other" != "$mine $mine $mine $mine $mine" ]; then
  echo "changed: tasks and actors have another niceness"
  exit 1
fi
echo "as described"
