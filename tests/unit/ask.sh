# What the shipped unit does under a real systemd, on a real kernel.
set -eu
fail() {
    echo "FAILED: $*"
    systemctl status pointsman --no-pager -l || true
    journalctl -u pointsman --no-pager 2>/dev/null | tail -n 40 || true
    exit 1
}
# Waits until a command succeeds, a tenth of a second at a time.
within() {
    tries=$1
    shift
    while ! "$@"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || fail "never: $*"
        sleep 0.1
    done
}
says() { pointsman status 2>/dev/null | grep -q "$1"; }
main_pid() { systemctl show -p MainPID --value pointsman; }

systemd-run --quiet --unit=server python3 -m http.server --bind 127.0.0.1 --directory /usr/share/doc/python3 8080
cat >/etc/pointsman/policies/shop.yaml <<END
virtual_services: [tcp://192.0.2.80:80]
forwarding: masq
real_servers: ['127.0.0.1:8080']
checks:
  - http: { path: / }
    interval: 2s
    timeout: 1900ms
    rise: 1
  - icmp:
    interval: 2s
    timeout: 1900ms
    rise: 1
  - exec: { command: [/bin/true] }
    interval: 2s
    timeout: 1900ms
    rise: 1
END

echo "# it is ready when it says so, as a user of its own"
systemctl start pointsman || fail "it does not start"
[ "$(systemctl is-active pointsman)" = active ] || fail "it is not active"
within 200 says "1 real server up"
pid=$(main_pid)
user=$(stat -c %u "/proc/$pid")
[ "$user" -ge 61184 ] || fail "it runs as user $user"
grep -q "^CapEff:.0000000000000000" "/proc/$pid/status" || fail "privileges at hand"
ipvsadm -Sn | grep -q -- "-r 127.0.0.1:8080" || fail "nothing in the table"
! pointsman doctor | grep -q '^[ew].*CAP_' || fail "doctor: $(pointsman doctor)"
echo "# a second one refuses, also as root with files of its own"
! pointsman run --policies /etc/pointsman/policies --state-dir /run/second --socket /run/second.sock \
    >/run/second.log 2>&1 || fail "a second daemon ran"
grep -q "holds the IPVS table" /run/second.log || fail "$(cat /run/second.log)"

echo "# a reload is one"
sed -i 's/masq/masq\nweight: 7/' /etc/pointsman/policies/shop.yaml
systemctl reload pointsman || fail "no reload"
within 100 sh -c 'ipvsadm -Sn | grep -q -- "-w 7"'
[ "$(main_pid)" = "$pid" ] || fail "a reload was a restart"

echo "# killed, it is back, and the table has not moved"
before=$(ipvsadm -Sn)
kill -9 "$pid"
within 100 sh -c '[ "$(systemctl show -p MainPID --value pointsman)" != 0 ] && [ "$(systemctl show -p MainPID --value pointsman)" != '"$pid"' ]'
within 200 says "1 real server up"
[ "$(ipvsadm -Sn)" = "$before" ] || fail "the table has moved"

echo "# a log file and alerts that cannot be read stop nothing"
printf 'log: { file: /var/log/pointsman/pointsman.log }\n' >/etc/pointsman/pointsman.yaml
printf 'receivers: [{ name: a, mail: { to: [a@b], from: a@b, server: h, user: u, password_file: p } }]\n' \
    >/etc/pointsman/alerts.yaml
(umask 077 && echo secret >/etc/pointsman/p)
systemctl restart pointsman || fail "no restart"
within 200 says "the alerts file is refused"
grep -q started /var/log/pointsman/pointsman.log || fail "no log"

echo "# hung, it is started anew by the watchdog"
mkdir -p /etc/systemd/system/pointsman.service.d
printf '[Service]\nWatchdogSec=2\n' >/etc/systemd/system/pointsman.service.d/short.conf
systemctl daemon-reload
systemctl restart pointsman
pid=$(main_pid)
kill -STOP "$pid"
within 200 sh -c 'now=$(systemctl show -p MainPID --value pointsman); [ "$now" != 0 ] && [ "$now" != '"$pid"' ]'
within 200 says "the alerts file is refused"

echo "# stopped, the table stays"
systemctl stop pointsman
[ "$(ipvsadm -Sn)" = "$before" ] || fail "the table went with it"
echo "all is well"
