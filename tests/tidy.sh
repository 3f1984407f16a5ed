#!/bin/sh
# Style check of the source tree: tests/tidy.sh [DIR]. Every violation is a line `file:line: what`;
# the last line says how many files were read. Exits 1 when there is a violation.
#
# CLANG_FORMAT names the formatter (default: clang-format). .clang-format is written for version 14.
set -eu
cd "${1:-$(dirname "$0")/..}"

found=$(mktemp)
trap 'rm -f "$found"' EXIT

# Tracked and new files, without ignored ones; in an unpacked archive everything but build trees.
list_files() {
    if git rev-parse --is-inside-work-tree >/dev/null 2>&1 && [ -z "$(git rev-parse --show-prefix)" ]; then
        git ls-files --cached --others --exclude-standard
    else
        find . -type d \( -name .git -o -name 'build*' -o -name node_modules \) -prune -o -type f -print |
            sed 's,^\./,,'
    fi | sort -u | while IFS= read -r file; do
        if [ -f "$file" ]; then printf '%s\n' "$file"; fi
    done
}

# Text that people write; lock files, minified bundles and data are left out.
is_text='(\.(c|h|cpp|hpp|fbs|sh|py|js|mjs|ts|tsx|css|html|md|yaml|yml|cmake)|CMakeLists\.txt|Dockerfile)$'
is_c='\.(c|h|cpp|hpp)$'
is_foreign='(^|/)(package-lock\.json|pnpm-lock\.yaml|[^/]*\.min\.[a-z]+)$'

files=$(list_files)
text_files=$(printf '%s\n' "$files" | grep -E "$is_text" | grep -Ev "$is_foreign" || true)
c_files=$(printf '%s\n' "$text_files" | grep -E "$is_c" || true)

# These two name the words they look for.
checkers='^tests/tidy(_selftest)?\.sh$'

# Run a command over the names on standard input; not at all when there are none.
over() { sed '/^$/d' | tr '\n' '\0' | xargs -0 -r "$@"; }
each_text() { printf '%s\n' "$text_files" | over "$@"; }
each_c() { printf '%s\n' "$c_files" | over "$@"; }

each_text awk '
    /[ \t\r]$/ { print FILENAME ":" FNR ": trailing whitespace" }
' >>"$found"

printf '%s\n' "$text_files" | grep -Ev "$checkers" |
    over grep -HnEwo 'TODO|FIXME|XXX|HACK|[Ss]tub|STUB' |
    sed -E 's/^(.*:[0-9]+):(.*)$/\1: the word \2: finish it or say what is meant/' >>"$found" || true

each_c awk '
    FNR == 1 { finish(); file = FILENAME }
    { last = FNR }
    /\t/ { print FILENAME ":" FNR ": tab" }
    END { finish() }
    function finish() {
        if (last > 800)
            print file ":801: the file has " last " lines, more than 800"
        last = 0
    }
' >>"$found"

# The formatter puts the brace that opens a function alone in the first column, and the one that
# closes it too. Before the first stands a line with a parenthesis; before that of a namespace or
# class there is none.
each_c awk '
    FNR == 1 { opened = 0; title = "" }
    /^{/ {
        if (title ~ /\(/)
            opened = title_at
        next
    }
    /^}/ {
        if (opened && FNR - opened + 1 > 80)
            print FILENAME ":" opened ": a function of " FNR - opened + 1 " lines, more than 80"
        opened = 0
        next
    }
    !opened && /^[A-Za-z_]/ { title = $0; title_at = FNR }
' >>"$found"

# Who may include whom (docs/architecture.md). What a folder may see of the others, and which
# libraries only some files may see.
each_c awk '
    BEGIN {
        folders = " base featurestore index shard router api ingest cmd "
        sees["base"] = " base "
        sees["featurestore"] = " base featurestore "
        sees["index"] = " base index "
        sees["shard"] = " base featurestore index shard "
        sees["router"] = " base shard router "
        sees["ingest"] = " base router ingest "
        sees["api"] = " base router ingest api "
    }
    function fail(why) { print FILENAME ":" FNR ": includes " target ": " why }
    function only(pattern, where, why) { if (target ~ pattern && FILENAME !~ where) fail(why) }
    /^[ ]*#[ ]*include[ ]*["<]/ {
        target = $0
        sub(/^[ ]*#[ ]*include[ ]*["<]/, "", target)
        sub(/[">].*/, "", target)
        from = FILENAME
        sub(/\/.*/, "", from)
        into = target
        sub(/\/.*/, "", into)
        if (target ~ /(^|\/)\.\.\//)
            fail("paths start at the root of the tree")
        if ((from in sees) && (index(folders, " " into " ") || into == "tests") && target ~ /\// &&
            !index(sees[from], " " into " "))
            fail(from " does not know " into)
        # bench/bare_* measure a library alone, as the yardstick for ours.
        if (FILENAME ~ /^bench\/bare_/)
            next
        only("^h2o(\\.h$|/)", "^api/|^router/transport", "h2o stays in api/ and router/transport*")
        only("^(faiss/|openblas|cblas|lapacke)", "^(index/|tests/unit/test_faiss_)", "FAISS and BLAS stay in index/")
        only("^rocksdb/", "^featurestore/", "RocksDB stays in featurestore/")
        only("^(simdjson|flatbuffers/|.*_generated\\.h$)", "^base/",
             "simdjson and FlatBuffers stay in base/")
    }
' >>"$found"

if command -v "${CLANG_FORMAT:-clang-format}" >/dev/null; then
    each_c "${CLANG_FORMAT:-clang-format}" --dry-run -Werror 2>&1 |
        sed -nE 's/^([^ :]+:[0-9]+):[0-9]+: (error|warning): .*clang-format-violations.*/\1: not formatted by clang-format/p' |
        uniq >>"$found" || true
else
    echo "tests/tidy.sh:1: ${CLANG_FORMAT:-clang-format} is not installed" >>"$found"
fi

cat "$found"
echo "tidy: $(printf '%s\n' "$text_files" | grep -c .) files checked"
[ ! -s "$found" ]
