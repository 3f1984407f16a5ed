#!/bin/sh
# Plants each kind of violation in a tree of its own and expects tidy.sh to name it, and nothing in
# the same tree without them.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tree=$(mktemp -d /tmp/cairn-test-XXXXXX)
trap 'rm -rf "$tree"' EXIT
cp "$here/../.clang-format" "$tree/"
cd "$tree"
mkdir -p api base bench featurestore index shard router tests
failures=0

# expect FILE:LINE: TEXT - tidy.sh fails and says so, and only so. Removes the file.
expect() {
    file=${1%%:*}
    if said=$("$here/tidy.sh" "$tree"); then
        echo "passed in spite of $1"
        failures=$((failures + 1))
    fi
    case $said in
    "$1"*) ;;
    *)
        echo "expected $1, got: $said"
        failures=$((failures + 1))
        ;;
    esac
    if [ "$(printf '%s\n' "$said" | wc -l)" -ne 2 ]; then
        echo "more than one finding for $1: $said"
        failures=$((failures + 1))
    fi
    rm -f "$file"
}

accept() {
    if ! said=$("$here/tidy.sh" "$tree"); then
        echo "refused: $said"
        failures=$((failures + 1))
    fi
}

# lines N: as many lines of a comment-free body
lines() { awk -v n="$1" 'BEGIN { while (n-- > 0) print "    x++;" }'; }

# FILE TARGET: the directive is refused in FILE, or not.
refuse_include() {
    printf 'int a;\n#include %s\n' "$2" >"$1"
    expect "$1:2: includes"
}
accept_include() {
    printf '#include %s\n' "$2" >"$1"
    accept
    rm -f "$1"
}

accept
printf 'int a;\nint b; \n' >README.md && expect 'README.md:2: trailing whitespace'
printf 'int a;\n/*\tb */\n' >base/a.c && expect 'base/a.c:2: tab'
for word in TO"DO" FIX"ME" X"XX" HA"CK" st"ub" St"ub"; do
    printf '/* %s: later */\n' "$word" >base/a.c && expect "base/a.c:1: the word $word"
    printf '# %s later\n' "$word" >a.sh && expect "a.sh:1: the word $word"
done
printf '/* XXXXXX stubborn */\n' >base/a.c && accept
printf 'int a  ;\n' >base/a.c && expect 'base/a.c:1: not formatted'

{ printf 'int f(int x)\n{\n'; lines 76; printf '    return x;\n}\n'; } >base/a.c
accept
{ printf 'int f(int x)\n{\n'; lines 77; printf '    return x;\n}\n'; } >base/a.c
expect 'base/a.c:1: a function of 81 lines'
{ printf 'namespace\n{\nint f(int x)\n{\n'; lines 80; printf '    return x;\n}\n} // namespace\n'; } >base/a.cpp
expect 'base/a.cpp:3: a function of 84 lines'
awk 'BEGIN { for (i = 0; i < 800; i++) print "int a" i ";" }' >base/a.c && accept
echo 'int b;' >>base/a.c && expect 'base/a.c:801: the file has 801 lines'

for library in '<h2o.h>' '<h2o/http1.h>'; do
    for file in base/a.c router/router.c index/a.c; do refuse_include "$file" "$library"; done
    for file in api/a.c router/transport_http.c bench/bare_a.c; do accept_include "$file" "$library"; done
done
for library in '<faiss/c_api/Index_c.h>' '<cblas.h>' '"faiss/Index.h"'; do
    for file in base/a.c shard/a.cpp featurestore/a.h; do refuse_include "$file" "$library"; done
    accept_include index/a.cpp "$library"
done
for file in base/a.c index/a.c shard/a.c; do refuse_include "$file" '<rocksdb/c.h>'; done
accept_include featurestore/a.c '<rocksdb/c.h>'
for library in '<simdjson.h>' '<flatbuffers/flatbuffers.h>' '"base/cairn_generated.h"'; do
    for file in api/a.cpp featurestore/a.cpp; do refuse_include "$file" "$library"; done
    accept_include base/a.cpp "$library"
done

for pair in base:index base:featurestore base:shard base:tests featurestore:index index:featurestore \
    featurestore:shard index:shard shard:router shard:api router:api router:featurestore api:shard; do
    refuse_include "${pair%%:*}/a.c" "\"${pair##*:}/b.h\""
done
for pair in base:base featurestore:base index:base shard:featurestore shard:index router:shard \
    api:router tests:api tests:index; do
    accept_include "${pair%%:*}/a.c" "\"${pair##*:}/b.h\""
done
refuse_include api/a.c '"../base/b.h"'

if [ "$failures" -ne 0 ]; then
    echo "tidy_selftest: $failures failures"
    exit 1
fi
echo "tidy_selftest: passed"
