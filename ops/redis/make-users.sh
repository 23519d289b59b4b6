#!/bin/sh
# Makes what each role needs to reach Redis: a password, and files that hold it.
#
#     ops/redis/make-users.sh DIRECTORY ADDRESS [SCHEME [PRIMARY]]
#
# ADDRESS is the server's, HOST:PORT, and SCHEME `redis` or, with TLS, `rediss`. With SCHEME `sentinel`
# or `sentinels`, ADDRESS is that of all Sentinels, HOST:PORT,HOST:PORT,…, and PRIMARY that of the
# server that begins as the primary. For each user of users.acl there will be
#
#     DIRECTORY/ROLE/password    as it was, where there is one already
#     DIRECTORY/ROLE/redis-url   for PENSTOCK_REDIS_URL_FILE
#     DIRECTORY/redis/users.acl  the rules with the passwords' SHA-256, for the server
#     DIRECTORY/redis/replication.conf   with which a server of a set comes into its primary
#     DIRECTORY/metrics/passwords.json   for redis_exporter
#     DIRECTORY/sentinel/sentinel.conf   for Sentinels, where there are any; each takes a copy
#
# With TLS the URLs name DIRECTORY/tls/ca.crt, where make-certificates.sh has left it.
#
# Run it again after an upgrade, for new rules, and after removing a password, for a new one; then
# let the server read it: ACL LOAD.
set -eu
umask 077

usage() {
    echo "usage: $0 DIRECTORY HOST:PORT [redis|rediss]" >&2
    echo "       $0 DIRECTORY HOST:PORT,HOST:PORT,HOST:PORT sentinel|sentinels PRIMARY:PORT" >&2
    exit 2
}

[ $# -ge 2 ] || usage
directory=$1 address=$2 scheme=${3:-redis} primary=${4:-$2}
here=$(dirname "$0")
case $scheme in
    redis | rediss) [ $# -le 3 ] || usage ;;
    sentinel | sentinels) [ $# -eq 4 ] || usage ;;
    *) usage ;;
esac

secret() { # made once
    mkdir -p "$(dirname "$1")"
    [ -s "$1" ] || od -An -N24 -tx1 /dev/urandom | tr -d ' \n' > "$1"
}

hash_of() { sha256sum < "$1" | cut -d ' ' -f 1; }

query=''
add() { query="$query${query:+&}$1"; }
case $scheme in sentinel*)
    secret "$directory/sentinel/asker-password"
    add master_name=penstock
    add sentinel_username=asker
    add "sentinel_password=$(cat "$directory/sentinel/asker-password")"
    ;;
esac
server=redis
case $scheme in rediss | sentinels)
    server=rediss
    [ ! -e "$directory/tls/ca.crt" ] || add "ssl_ca_certs=$directory/tls/ca.crt"
    ;;
esac

mkdir -p "$directory/redis"
new=$directory/redis/users.acl.new
grep '^user default ' "$here/users.acl" > "$new"
grep -v '^user default ' "$here/users.acl" | while read -r user role rest; do
    password=$directory/$role/password
    secret "$password"
    echo "$user $role $rest #$(hash_of "$password")" >> "$new"
    echo "$scheme://$role:$(cat "$password")@$address/0${query:+?$query}" > "$directory/$role/redis-url"
done

printf '{"%s://metrics@%s": "%s"}\n' "$server" "$primary" "$(cat "$directory/metrics/password")" \
    > "$directory/metrics/passwords.json"

{
    echo masteruser replica
    echo "masterauth $(cat "$directory/replica/password")"
} > "$directory/redis/replication.conf"

case $scheme in sentinel*)
    listens='s/^port 26379$/&/'
    [ "$scheme" = sentinel ] || listens='s/^port 26379$/include \/etc\/penstock\/tls.conf\ntls-port 26379/'
    sed -e "$listens" \
        -e "s/@primary@/${primary%:*} ${primary##*:}/" \
        -e "s/@password@/$(cat "$directory/sentinel/password")/" \
        -e "s/@hash@/$(hash_of "$directory/sentinel/password")/" \
        -e "s/@asker@/$(hash_of "$directory/sentinel/asker-password")/" \
        "$here/sentinel.conf" > "$directory/sentinel/sentinel.conf"
    ;;
esac

# The server and Penstock run as other users, and hashes of random passwords are no secret. The
# password in replication.conf is one: give it to the server's user. Each role's folder stays closed.
# In a container DIRECTORY is the image's own: open, and nobody may change it.
for open in "$directory" "$directory/redis"; do
    [ -n "$(find "$open" -prune -perm -055)" ] || chmod a+rx "$open"
done
chmod 644 "$new"
mv "$new" "$directory/redis/users.acl"
