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

# Runs a line of the book as it stands there, and puts it on record.
run() {
    echo "ran: $1" >>/run/ran
    sh -c 'sudo() { "$@"; }; '"$1"
}
expect() {
    [ "$1" = "$2" ] || fail "expected '$1', found '$2'"
}

systemctl start systemd-journald
ip addr add 192.0.2.10/32 dev lo
systemd-run --quiet --unit=server python3 -m http.server --bind 192.0.2.10 --directory /usr/share/doc/python3 80

echo "# it is installed by hand"
cd /run/tree
run 'sudo install -m 755 target/release/pointsman /usr/local/sbin/pointsman'
expect /usr/local/sbin/pointsman "$(command -v pointsman)"
run 'sudo install -d /etc/pointsman/policies'
run 'sudo install -m 644 contrib/pointsman.service /etc/systemd/system/pointsman.service'
run 'sudo systemctl daemon-reload'
expect loaded/inactive "$(systemctl show -p LoadState --value pointsman)/$(systemctl is-active pointsman)"

echo "# what a script has put into the table is written down"
ipvsadm -A -t 192.0.2.81:80 -s rr
ipvsadm -a -t 192.0.2.81:80 -r 192.0.2.10:80 -m -w 3
run 'sudo pointsman export | sudo tee /etc/pointsman/policies/table.yaml' >/run/said-by-tee
cmp /run/said-by-tee /etc/pointsman/policies/table.yaml || fail "tee"
grep -q "tcp://192.0.2.81:80" /run/said-by-tee || fail "not written down: $(cat /run/said-by-tee)"
pointsman plan --assume up --detailed-exitcode || fail "the table is not as it was written down"
cd /etc/pointsman/policies
run 'pointsman export > table.yaml'
cmp /run/said-by-tee table.yaml || fail "another export"
rm table.yaml
ipvsadm -C

echo "# a policy is begun and edited"
run 'pointsman policy new shop | sudo tee /etc/pointsman/policies/shop.yaml' >/dev/null
grep -q '^name: shop$' shop.yaml || fail "another policy: $(cat shop.yaml)"
mv shop.yaml /run/begun
run 'pointsman policy new shop > shop.yaml'
cmp /run/begun shop.yaml || fail "another beginning"
pointsman check shop.yaml || fail "what it begins with is wrong"
# What whoever sits at the terminal makes of it.
cat >/run/shop.yaml <<END
virtual_services: [tcp://192.0.2.80:80]
forwarding: masq
real_servers: ['192.0.2.10:80']
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
printf '#!/bin/sh\ngrep -q "^name: shop" "$1" && cp /run/shop.yaml "$1"\n' >/usr/local/sbin/editor
chmod 755 /usr/local/sbin/editor
run 'sudo editor /etc/pointsman/policies/shop.yaml' || fail "nothing to edit"
expect "ok: 1 policy, 1 lint" "$(run 'pointsman check' 2>/dev/null)"
run 'sudo pointsman doctor' >/run/found && fail "nothing is wrong"
grep -q '^error     192.0.2.80 ' /run/found || fail "doctor: $(cat /run/found)"
run 'pointsman doctor' | cmp - /run/found || fail "doctor says something else"
for line in 'sudo pointsman plan' 'pointsman plan'; do
    run "$line" | grep -q '^2 to add, 0 to change, 0 to remove$' || fail "$line"
done
expect "" "$(ipvsadm -Sn)"

echo "# it is ready when it says so, as a user of its own"
echo 'listen: 127.0.0.1:9470' >/etc/pointsman/pointsman.yaml
run 'sudo systemctl enable --now pointsman' || fail "it does not start"
run 'systemctl enable --now pointsman' || fail "it cannot be said twice"
expect "enabled active" "$(systemctl is-enabled pointsman) $(systemctl is-active pointsman)"
within 200 says "1 real server up"
pid=$(main_pid)
user=$(stat -c %u "/proc/$pid")
[ "$user" -ge 61184 ] || fail "it runs as user $user"
grep -q "^CapEff:.0000000000000000" "/proc/$pid/status" || fail "privileges at hand"
ipvsadm -Sn | grep -q -- "-r 192.0.2.10:80" || fail "nothing in the table"
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

echo "# VRRP is told of the policy that its script asks for"
ready='/usr/bin/curl -gfs -o /dev/null -m 2 http://127.0.0.1:9470/ready/www'
! sh -c "$ready" || fail "there is no such policy"
mv shop.yaml www.yaml
within 100 run "$ready"

echo "# the journal has what went wrong, and what a real server did"
systemctl kill --signal STOP server
within 200 says "1 of 1 real servers down"
within 100 sh -c "journalctl --sync && journalctl -u pointsman | grep -q 'from=up to=down'"
! run "$ready" || fail "nobody is up"
run 'journalctl -u pointsman -p warning' >/run/warnings
run 'journalctl POINTSMAN_REAL_SERVER=192.0.2.10:80' >/run/of-one
grep -q 'from=up to=down' /run/warnings && ! grep -q 'to=up' /run/warnings || fail "$(cat /run/warnings)"
grep -q 'from=up to=down' /run/of-one && grep -q 'to=up' /run/of-one || fail "$(cat /run/of-one)"
! grep -qv 'real_server=192.0.2.10:80\|^-- ' /run/of-one || fail "$(cat /run/of-one)"
systemctl kill --signal CONT server
within 200 says "1 real server up"

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
cat /run/ran
echo "all is well"
