#!/bin/sh
# gcc for the tests: sh compile_once.sh FOLDER GCC ARGUMENTS...
#
# An object that was compiled before, from the same text by the same options, is copied from FOLDER. There gcc also finds
# <immintrin.h> precompiled, which it reads for longer than it compiles most kernels.
folder=$1
shift
before= source= object= options=
for word; do
    shift
    case $before in
    -c) source=$word ;;
    -o) object=$word ;;
    *) case $word in -c | -o) ;; *) set -- "$@" "$word" ;; esac ;;
    esac
    case $before$word in -c* | -o* | *-ffile-prefix-map=*) ;; *) options="$options $word" ;; esac
    before=$word
done
case $source in
*.c) ;;
*) exec "$@" ${source:+-c "$source"} ${object:+-o "$object"} ;;
esac

key=$({
    echo "$options $source"
    cat "$source"
    find . -name '*.h' -print -exec cat {} +
} | sha256sum)
made=$folder/${key%% *}.o
[ -e "$made" ] && exec cp "$made" "$object"

if grep -qs '^#include <immintrin.h>' "$source" "${source%.c}.h"; then
    variant=$(echo "$options" | sha256sum)
    header=$folder/${variant%% *}.h # gcc takes what was precompiled with the very same options only
    if [ ! -e "$header" ]; then # options that come once are not worth it
        echo '#include <immintrin.h>' >"$header.$$" && mv "$header.$$" "$header"
    else
        if [ ! -e "$header.gch" ]; then
            "$@" -x c-header "$header" -o "$header.$$" && mv "$header.$$" "$header.gch"
        fi
        # now and then gcc crashes over what it precompiled
        if "$@" -include "$header" -c "$source" -o "$object" 2>"$object.err"; then
            cat "$object.err" >&2
            cp "$object" "$made.$$" && exec mv "$made.$$" "$made"
        fi
    fi
fi
"$@" -c "$source" -o "$object" || exit
cp "$object" "$made.$$" && mv "$made.$$" "$made"
