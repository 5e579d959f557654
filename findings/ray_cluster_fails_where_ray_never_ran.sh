#!/usr/bin/env bash
# Ray 2.60.0: a test cluster with a folder of its own, on a machine where no Ray has run before.
#
# Expected: ray.cluster_utils.Cluster keeps all that it writes in the temp_dir that its head is given, so that a fresh
# machine needs nothing.
# Seen (CPython 3.11): the head starts in that folder, and then its address is written into ray_current_cluster in the
# *default* folder, which nobody has made: FileNotFoundError, on fresh machines only. Once that folder is there, the
# same program works, and clusters overwrite each other's address.
#
# Our tests make the default folder first.
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d /tmp/rc-XXXX)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "ray[default]==2.60.0" psutil
mkdir "$folder/fresh" "$folder/own"
export RAY_TMPDIR="$folder/fresh" RAY_USAGE_STATS_ENABLED=0 OWN="$folder/own" HOME="$folder"
cat > "$folder/start.py" <<'PY'
import os
import sys

from ray.cluster_utils import Cluster

head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": os.environ["OWN"]}
try:
    cluster = Cluster(initialize_head=True, head_node_args=head)
except FileNotFoundError as error:
    sys.exit(f"FileNotFoundError: {os.path.relpath(error.filename, os.environ['RAY_TMPDIR'])}, from the default folder")
print("the cluster started")
cluster.shutdown()
PY
echo "where no Ray has run:"
if "$folder/venv/bin/python" "$folder/start.py" 2>"$folder/err"; then
  echo "changed: it starts"
  exit 1
fi
tail -1 "$folder/err"
grep -q "^FileNotFoundError: .*ray_current_cluster" "$folder/err" || { echo "changed: it fails otherwise"; exit 1; }
mkdir -p "$folder/fresh/ray"
echo "once the default folder is there:"
"$folder/venv/bin/python" "$folder/start.py" 2>/dev/null
echo "as described"
