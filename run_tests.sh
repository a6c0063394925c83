#!/usr/bin/env bash
# The one test command.
#
#   ./run_tests.sh [all|lint|unit|wide|ansible|bench|soak] [pytest arguments]
#
#   all     lint, floors, types, tests (the default)          unit   the tests alone
#   lint    lint, floors, types                               soak   the tests that run for minutes
#   wide    the rest of the matrices of which `all` has a row and a column (tests/wide.py)
#   bench   python -m tests.bench                         ansible  playbooks, under several versions of ansible-core
#
# As root on Debian it installs what is missing (apt and a virtual environment), starts a private sshd and prepares a
# chroot with the newest Pythons; it stops what it started. Without root it says what it leaves out and runs the rest.
# A second run installs nothing.
#
# Environment: CONTEXTREE_CACHE   where the virtual environment and the chroot live (default: .cache)
#              CONTEXTREE_PYTHON  the Python 3.10+ to use (default: the first one found)
#              CONTEXTREE_WORKERS processes that run tests (default: 2)
#              CONTEXTREE_LIMIT   seconds after which the tests are stopped (default: 2000; ansible: 3000)
set -uo pipefail
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 2
export DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PYTHONDONTWRITEBYTECODE=1
unset PYTHONPATH PYTHONHOME PYTHONWARNINGS

STAGE=all
case ${1:-} in
  -h|--help) STAGE=help ;;
  -*|'') ;;                      # pytest arguments alone: all stages
  *) STAGE=$1; shift ;;
esac
case $STAGE in
  all|lint|unit|wide|ansible|bench|soak) ;;
  *) sed -n '2,18s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac

CACHE=${CONTEXTREE_CACHE:-.cache}
mkdir -p "$CACHE" || exit 2
CACHE=$(cd "$CACHE" && pwd)
export CONTEXTREE_CACHE=$CACHE
LOGS=$(mktemp -d "${TMPDIR:-/tmp}/ctxt-run.XXXXXX") || exit 2
STATE=$LOGS/sshd.json
MANDB=/var/lib/man-db/auto-update
MANDB_WAS=
VENV_PY=
LEFT_OUT=()      # what this run could not do, and why
FAILED=()
DONE=()
SUMMARY="no tests run"
COMPILING=

say() { printf '\n=== %s\n' "$*"; }
left_out() { LEFT_OUT+=("$*"); printf 'left out: %s\n' "$*"; }
is_root() { [ "$(id -u)" = 0 ]; }

cleanup() {
  local status=$?
  trap - EXIT
  [ -n "$COMPILING" ] && { pkill -P "$COMPILING"; kill "$COMPILING"; } 2>/dev/null
  [ -s "$STATE" ] && [ -n "$VENV_PY" ] && timeout 60 "$VENV_PY" -m tests.lab sshd down --state "$STATE"
  [ -n "$MANDB_WAS" ] && touch "$MANDB"
  rm -rf "$LOGS"
  exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# --------------------------------------------------------------------------------------------------- the machine
missing_packages() {   # shellcheck disable=SC2086
  local name
  for name in "$@"; do
    dpkg-query -W -f '${Status}\n' "$name" 2>/dev/null | grep -q 'ok installed' || printf '%s ' "$name"
  done
}

apt_install() {   # installs what is missing; 1 if that did not work
  local wanted status=0
  command -v dpkg-query >/dev/null && command -v apt-get >/dev/null || return 1
  wanted=$(missing_packages "$@")
  [ -z "$wanted" ] && return 0
  is_root || return 1
  say "installing: $wanted"
  # man-db's trigger rebuilds its index after every installation, which takes longer than the installation
  if [ -e "$MANDB" ]; then MANDB_WAS=1; rm -f "$MANDB"; fi
  local update=(timeout 180 apt-get -o DPkg::Lock::Timeout=200 -o Acquire::Retries=3 update -qq)
  # shellcheck disable=SC2206
  local install=(timeout 400 apt-get -o DPkg::Lock::Timeout=200 -o Acquire::Retries=3
                 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold
                 install -y -qq --no-install-recommends $wanted)
  compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null || "${update[@]}" >>"$LOGS/apt" 2>&1
  if ! "${install[@]}" >>"$LOGS/apt" 2>&1; then      # old lists name versions that the mirror no longer has
    "${update[@]}" >>"$LOGS/apt" 2>&1
    "${install[@]}" >>"$LOGS/apt" 2>&1 || { status=1; tail -n 5 "$LOGS/apt"; }
  fi
  if [ -n "$MANDB_WAS" ]; then touch "$MANDB"; MANDB_WAS=; fi
  return $status
}

SHELLS="dash zsh mksh tcsh csh fish busybox-static"   # login shells that a target may have
ACCOUNTS="sudo opendoas acl"                   # besides su and runuser, which Debian always has
SERVERS="dropbear-bin libpam-google-authenticator"   # another sshd, and one-time codes
CONTAINERS="docker.io podman buildah runc lxc lxd systemd-container dbus"   # private daemons; images are of this machine
WANTED="openssh-server openssh-client $ACCOUNTS strace procps iproute2 $SHELLS $SERVERS $CONTAINERS mmdebstrap"

packages() {   # shellcheck disable=SC2086
  local name
  is_root || left_out "not root: no private sshd, no other accounts, no chroot with the newest Pythons"
  apt_install $WANTED && return
  if is_root; then   # one that cannot be had must not cost the others
    for name in $WANTED; do
      apt_install "$name" || left_out "$name: could not be installed with apt-get"
    done
  elif command -v dpkg-query >/dev/null; then
    name=$(missing_packages openssh-client $ACCOUNTS strace procps iproute2 $SHELLS)
    [ -z "$name" ] || left_out "not root: cannot install $name"
  fi
}

find_python() {
  local candidate
  for candidate in "${CONTEXTREE_PYTHON:-}" python3 python3.{14,13,12,11,10} /usr/bin/python3; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      # of a virtual environment that happens to be active, the Python behind it
      "$candidate" -c 'import sys; print(getattr(sys, "_base_executable", sys.executable))'
      return 0
    fi
  done
  return 1
}

environment() {   # a virtual environment with contextree[test]; kept until pyproject.toml or the Python changes
  local python venv stamp
  if ! python=$(find_python); then
    apt_install python3 python3-venv
    python=$(find_python) || { echo "no Python 3.10 or newer with venv was found; set CONTEXTREE_PYTHON"; return 1; }
  fi
  venv=$CACHE/venv
  stamp="$("$python" -c 'import sys; print(sys.executable, sys.version)') $PWD $(cksum <pyproject.toml)"
  VENV_PY=$venv/bin/python
  PATH=$venv/bin:$PATH
  if [ "$(cat "$venv/contextree-stamp" 2>/dev/null)" = "$stamp" ] && "$VENV_PY" -c 'import contextree, pytest' 2>/dev/null
  then return 0; fi
  say "making the virtual environment with $python"
  "$python" -m venv --clear "$venv" || return 1
  timeout 600 "$VENV_PY" -m pip install -q -e '.[test]' 2>&1 | grep -v '^WARNING: Location'
  [ "${PIPESTATUS[0]}" = 0 ] || return 1
  printf '%s\n' "$stamp" >"$venv/contextree-stamp"
}

compile() {   # once here, beside the lint, instead of in each of the thousand programs that the tests start; and what
  # pytest makes of the tests, which takes 10 s, instead of in each of its processes
  {
    timeout 120 "$VENV_PY" -m compileall -q contextree tests ansible_plugin docs/examples &&
      PYTHONDONTWRITEBYTECODE='' timeout 200 "$VENV_PY" -m pytest --collect-only -qq -p no:cacheprovider
  } >"$LOGS/compiled" 2>&1 &
  COMPILING=$!
}

compiled() {
  local status=0
  [ -n "$COMPILING" ] || compile
  wait "$COMPILING" || status=$?
  COMPILING=
  [ "$status" = 0 ] || { left_out "compiled files (exit $status)"; tail -n 5 "$LOGS/compiled"; }
}

lab() {   # what the tests need beside the environment
  local why
  is_root || return 0
  if why=$("$VENV_PY" -m tests.lab chroot 2>&1); then printf '%s\n' "$why"
  else left_out "Python 3.14 and 3.15 in a chroot: ${why##*$'\n'}"; fi
  if why=$("$VENV_PY" -m tests.lab sshd up --state "$STATE" --keeper $$ 2>&1); then
    printf '%s\n' "$why"
    export CONTEXTREE_LAB_SSHD=$STATE
  else left_out "private sshd: ${why##*$'\n'}"; fi
}

cores() {   # cores [version...]: environments with ansible-core, for playbooks
  local why
  is_root || { left_out "not root: no playbooks"; return; }
  while read -r why; do
    case $why in
      left\ out:*) left_out "${why#left out: }" ;;
      *) echo "$why" ;;
    esac
  done < <("$VENV_PY" -m tests.ansible.cores "$@" 2>&1)
}

# ---------------------------------------------------------------------------------------------------- the stages
run() {   # run NAME command...
  local name=$1
  shift
  printf '%s\n' "--- $name: $*"
  "$@" || FAILED+=("$name")
}

stage_lint() {
  say "lint"
  run ruff ruff check --quiet .
  run "own rules" "$VENV_PY" -m tests.lint
  DONE+=(lint)
}

stage_floors() {
  local floors=() folder
  say "floors"
  for folder in contextree/core contextree/connect contextree/parent ansible_plugin/target; do
    [ -d "$folder" ] && floors+=("$folder")
  done
  run vermin vermin -q -t=3.6- --no-tips --processes=1 --violations "${floors[@]}"
  run import-linter lint-imports --no-cache
  DONE+=(floors)
}

stage_types() {
  say "types"
  run mypy mypy --cache-dir "$CACHE/mypy"
  run pyright pyright --pythonpath "$VENV_PY"
  DONE+=(types)
}

stage_tests() {   # stage_tests [pytest arguments]
  local status spread=()
  say "tests"
  compiled
  # processes, each with whole files of tests, in the order of tests/conftest.py; they must agree on the names of
  # tests that sets and hashes are in
  [ "$(nproc 2>/dev/null || echo 1)" -gt 1 ] &&
    spread=(-n "${CONTEXTREE_WORKERS:-2}" --dist "${SPREAD:-loadfile}" --no-loadscope-reorder)
  export PYTHONHASHSEED=${PYTHONHASHSEED:-$RANDOM}
  echo "PYTHONHASHSEED=$PYTHONHASHSEED"
  export CONTEXTREE_FAILURES=$LOGS/failures   # tests/conftest.py names there what fails, when it does
  timeout --foreground -k 30 "${CONTEXTREE_LIMIT:-2000}" "$VENV_PY" -m pytest "${spread[@]}" "$@" -rs 2>&1 | tee "$LOGS/pytest"
  status=${PIPESTATUS[0]}
  if [ "$status" = 1 ] && [ "$(grep -cE '^_{3,} .* _{3,}$' "$LOGS/pytest")" -le 10 ]; then
    # machines are shared and slow at times: a few that failed beside the others are asked again, alone
    say "what failed, once more, alone"
    export CONTEXTREE_FAILURES=$LOGS/failures-again
    timeout --foreground -k 30 240 "$VENV_PY" -m pytest --lf --lfnf=none "$@" -rs 2>&1 | tee "$LOGS/again"
    status=${PIPESTATUS[0]}
  fi
  SUMMARY=$(grep -E '(passed|failed|error|errors|skipped|deselected|no tests ran).* in [0-9.]+s' "$LOGS/pytest" | tail -n 1)
  [ "$status" = 124 ] && SUMMARY="stopped after ${CONTEXTREE_LIMIT:-2000} s; $SUMMARY"
  [ "$status" = 0 ] || FAILED+=("tests (exit $status)")
  DONE+=(tests)
}

STARTED=$SECONDS
packages
environment || { echo "run_tests.sh: FAILED: no environment to run in: no tests run"; exit 1; }
case $STAGE in
  lint) stage_lint; stage_floors; stage_types ;;
  unit) lab; cores newest; stage_tests "$@" ;;
  all) lab; cores newest; compile; stage_lint; stage_floors; stage_types; stage_tests "$@" ;;
  ansible) lab; cores; SPREAD=worksteal; : "${CONTEXTREE_LIMIT:=3000}"
           stage_tests -m ansible --timeout 300 -o faulthandler_timeout=0 tests/ansible "$@" ;;
  wide) lab; stage_tests -m wide "$@" ;;
  soak) lab; stage_tests -m soak --timeout 900 "$@" ;;
  bench) say "bench"; run bench "$VENV_PY" -m tests.bench "$@"; DONE+=(bench) ;;
esac

failures() {   # failures FILE TITLE: what failed, a line each
  if [ -s "$1" ]; then
    echo "$2:"
    cut -c 1-250 "$1" | head -n 60
  else
    echo "$2: nothing"
  fi
}

say "left out or skipped"
[ ${#LEFT_OUT[@]} = 0 ] || printf 'left out: %s\n' "${LEFT_OUT[@]}"
[ -f "$LOGS/pytest" ] && grep '^SKIPPED' "$LOGS/pytest" || true
[ ${#LEFT_OUT[@]} = 0 ] && ! grep -qs '^SKIPPED' "$LOGS/pytest" && echo "nothing"
printf '\n'
[ -f "$LOGS/pytest" ] && failures "$LOGS/failures" "failed in the run of all"
[ -f "$LOGS/again" ] && failures "$LOGS/failures-again" "failed once more, alone"
if [ ${#FAILED[@]} = 0 ]; then
  echo "run_tests.sh: OK: ${DONE[*]} in $((SECONDS - STARTED)) s: $SUMMARY"
  exit 0
fi
echo "run_tests.sh: FAILED: $(printf '%s, ' "${FAILED[@]}")of ${DONE[*]} in $((SECONDS - STARTED)) s: $SUMMARY"
exit 1
