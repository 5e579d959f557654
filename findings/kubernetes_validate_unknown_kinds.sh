#!/usr/bin/env bash
# kubernetes-validate 1.37.0: a kind it has no schema for, and a quantity that is none, under --strict.
#
# Expected: a file that cannot be checked does not pass, least of all strictly; and memory of "12 gigs" is refused, as
# the API server does.
# Seen (CPython 3.11): for a ScaledObject of KEDA's, whose fields are misspelt, it prints a line that no schema was
# found and exits with 0, so that a pipeline goes on. "12 gigs" passes: the schema says string and no more. A misspelt
# field of a Pod is refused with 1.
#
# We call its function, which raises for an unknown kind, keep small schemas of our own in deploy/schemas, and check
# quantities ourselves (tests/docs/test_kubernetes.py).
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet kubernetes-validate==1.37.0
cat > "$folder/scaled.yaml" <<'YAML'
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: one}
spec: {scaleTargetReff: {name: one}, trigers: []}
YAML
cat > "$folder/pod.yaml" <<'YAML'
apiVersion: v1
kind: Pod
metadata: {name: one}
spec:
  containers:
    - {name: one, image: one, resources: {limits: {memory: 12 gigs}}}
YAML
sed 's/image:/imagge:/' "$folder/pod.yaml" > "$folder/misspelt.yaml"
status() { "$folder/venv/bin/kubernetes-validate" --strict "$1" >&2 && echo 0 || echo $?; }
unknown=$(status "$folder/scaled.yaml")
quantity=$(status "$folder/pod.yaml")
misspelt=$(status "$folder/misspelt.yaml")
echo "unknown kind: exit $unknown; 12 gigs: exit $quantity; misspelt field of a pod: exit $misspelt"
[ "$unknown $quantity $misspelt" = "0 0 1" ] || { echo "changed"; exit 1; }
echo "as described"
