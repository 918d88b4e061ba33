# Tests of this program that need controllers of cgroup v2, in a guest that has them.
program=$1
for name in $("$program" --list-guest); do
    if PIDONE_TEST_CASE=$name "$program" >/tmp/output 2>&1; then
        echo "check: ok $name"
    else
        echo "check: FAILED $name: $(cat /tmp/output)"
    fi
done
