# Installs, upgrades, removes and purges a package in a clean Debian that has nothing but what every
# Debian has, with a layer above it that shows all writes. It runs in a mount namespace of its own, so
# nothing is left. What the book says of a package is run as it stands there.
#   package-root.sh SCRATCH OLD.deb NEW.deb
scratch=$1 old=$2 new=$3

mount --make-rprivate /
layers=$scratch/layers
mkdir "$layers"
mount -t tmpfs tmpfs "$layers"
mkdir "$layers/clean" "$layers/upper" "$layers/work" "$layers/root"
sources=/etc/apt/sources.list.d/debian.sources
[ -e "$sources" ] || sources=/etc/apt/sources.list
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
mmdebstrap --quiet --variant=apt --include=procps --mode=root "$release" "$layers/clean" "$sources" >&2
mount -t overlay overlay \
    -o "lowerdir=$layers/clean,upperdir=$layers/upper,workdir=$layers/work" "$layers/root"
root=$layers/root
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount --bind /dev "$root/dev"
# Where `make deb` leaves it, and where somebody has brought it.
mkdir -p "$root/tmp/tree/target/debian" "$root/tmp/home"
cp "$old" "$root/tmp/tree/target/debian"
cp "$old" "$root/tmp/home"
cp "$new" "$root/tmp/new.deb"
# Whoever sits at the terminal says yes to what else has to come, and is content with that.
printf 'APT::Get::Assume-Yes "true";\nAPT::Install-Recommends "false";\n' >"$root/etc/apt/apt.conf.d/50yes"

# A service manager that writes down what it is told.
mkdir -p "$root/run/systemd/system"
for tool in systemctl deb-systemd-invoke; do
    rm -f "$root/usr/bin/$tool"
    printf '#!/bin/sh\necho %s "$@" >>/tmp/told\n' "$tool" >"$root/usr/bin/$tool"
    chmod 755 "$root/usr/bin/$tool"
done

fail() {
    echo "package-root.sh: $*" >&2
    exit 1
}
inside() {
    chroot "$root" env DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
}
# Runs a line of the book in a directory of the root, as it stands there, and puts it on record.
run() {
    inside sh -c 'sudo() { "$@"; }; cd "$0"; '"$2" "$1" </dev/null
    echo "ran: $2"
}
# What the service manager was told since the last time.
told() {
    cat "$root/tmp/told" 2>/dev/null || true
    rm -f "$root/tmp/told"
}
expect() {
    [ "$1" = "$2" ] || fail "expected '$1', found '$2'"
}

installed() {
    expect "install ok installed" "$(inside dpkg-query -W -f '${Status}' pointsman)"
    expect "systemctl --system daemon-reload" "$(told)"
}
run /tmp/home 'sudo apt install ./pointsman_*.deb'
installed
inside dpkg -P pointsman
told >/dev/null
run /tmp/tree 'sudo apt install ./target/debian/pointsman_*.deb'
installed
[ ! -e "$root/etc/systemd/system/multi-user.target.wants/pointsman.service" ] || fail "it is enabled"
depends=$(inside dpkg-query -W -f '${Depends}' pointsman)
case $depends in *libc6*) ;; *) fail "no dependency on libc: $depends" ;; esac

# The first five minutes.
[ "$(inside which pointsman)" = /usr/sbin/pointsman ] || fail "another pointsman is in front"
inside pointsman --version
code=0 && inside pointsman check || code=$?
expect 2 "$code"
inside sh -c 'cd /etc/pointsman/policies && pointsman policy new shop > shop.yaml'
inside pointsman check
for example in "$root"/usr/share/doc/pointsman/policies/*.yaml; do
    inside pointsman check "/usr/share/doc/pointsman/policies/${example##*/}"
done
inside pointsman schema | cmp - "$root/usr/share/pointsman/policy.schema.json"
named=$(zcat "$root/usr/share/man/man8/pointsman.8.gz" | cat - "$root/etc/pointsman/policies/README" |
    grep -o '/usr/share/[A-Za-z/.]*')
[ -n "$named" ] || fail "the documentation names no file"
# Every link of the documents leads somewhere.
book=$root/usr/share/doc/pointsman
for document in "$book"/README.md "$book"/docs/*.md; do
    for link in $(grep -o '](\([^)#:]*\)' "$document" | sed 's/](//'); do
        target=${document%/*}/$link
        [ -e "$target" ] || [ -e "$target.gz" ] || fail "${document##*/} links to $link"
    done
done
for path in $named; do
    [ -e "$root/$path" ] || fail "the documentation names $path"
done
for page in pointsman pointsman-plan; do
    MANPATH=$root/usr/share/man man -w "$page"
done
systemd-analyze verify --root="$root" --man=no --recursive-errors=no \
    /usr/lib/systemd/system/pointsman.service
mkdir -p "$root/var/lib/private/pointsman"
ln -s private/pointsman "$root/var/lib/pointsman"
touch "$root/var/lib/private/pointsman/owned.json"

# An upgrade restarts who runs, and keeps everything.
inside dpkg -i /tmp/new.deb
expect "systemctl --system daemon-reload
deb-systemd-invoke try-restart pointsman.service" "$(told)"
[ -e "$root/etc/pointsman/policies/shop.yaml" ] || fail "an upgrade lost a policy"

inside dpkg -r pointsman
expect "deb-systemd-invoke stop pointsman.service
systemctl --system daemon-reload" "$(told)"
[ -e "$root/var/lib/private/pointsman/owned.json" ] || fail "removal lost the state"

# A purge keeps what people wrote, and nothing else.
inside dpkg -P pointsman
[ ! -e "$root/var/lib/private/pointsman" ] || fail "a purge left the state"
[ ! -L "$root/var/lib/pointsman" ] || fail "a purge left the way to the state"
left=$(find "$layers/upper" -path '*pointsman*' ! -type d ! -type c | sed "s|$layers/upper||" | sort)
expect /etc/pointsman/policies/shop.yaml "$left"
rm "$root/etc/pointsman/policies/shop.yaml"

# And once more without a policy: then the directories go too.
inside dpkg -i /tmp/new.deb
inside dpkg -P pointsman
[ ! -e "$root/etc/pointsman" ] || fail "a purge left /etc/pointsman"
echo "all is well"
