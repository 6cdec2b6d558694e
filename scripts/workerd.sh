#!/bin/sh
# Becomes workerd ($BATON_WORKERD), such that it never outlives the process that started it: not even one ended by
# kill -9, which cannot tidy up. File descriptor 3 is that process's control pipe.

# Ctrl-C reaches every process of the terminal; when the runtime ends is the start process's decision alone.
trap '' INT HUP

# The next start on the same state directory ends the workerd described here, should it still run then.
if [ -n "${BATON_WORKERD_RECORD:-}" ]; then
  printf '%s\n%s\n' "$$" "$*" >"$BATON_WORKERD_RECORD" || exit 1
fi

# The control pipe carries nothing towards this side, so reading it returns when the start process is gone. The fresh
# shell knows its present parent: another one than workerd means that workerd ended and its pid may be someone else's.
(
  read -r _ <&3
  exec sh -c '[ "$PPID" = "$1" ] && kill -KILL "$1"' sh "$$"
) </dev/null >/dev/null 2>&1 &

exec "$BATON_WORKERD" "$@"
