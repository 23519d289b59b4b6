#!/bin/sh
# Makes what each role needs to reach Redis: a password, and files that hold it.
#
#     ops/redis/make-users.sh DIRECTORY ADDRESS [SCHEME]
#
# ADDRESS is the server's, HOST:PORT, and SCHEME `redis` or, with TLS, `rediss`. For each user of
# users.acl there will be
#
#     DIRECTORY/ROLE/password    as it was, where there is one already
#     DIRECTORY/ROLE/redis-url   for PENSTOCK_REDIS_URL_FILE
#     DIRECTORY/redis/users.acl  the rules with the passwords' SHA-256, for the server
#     DIRECTORY/metrics/passwords.json   for redis_exporter
#
# Run it again after an upgrade, for new rules, and after removing a password, for a new one; then
# let the server read it: ACL LOAD.
set -eu
umask 077

[ $# -ge 2 ] || { echo "usage: $0 DIRECTORY HOST:PORT [redis|rediss]" >&2; exit 2; }
directory=$1 address=$2 scheme=${3:-redis}
rules=$(dirname "$0")/users.acl

mkdir -p "$directory/redis"
new=$directory/redis/users.acl.new
grep '^user default ' "$rules" > "$new"
grep -v '^user default ' "$rules" | while read -r user role rest; do
    mkdir -p "$directory/$role"
    password=$directory/$role/password
    [ -s "$password" ] || od -An -N24 -tx1 /dev/urandom | tr -d ' \n' > "$password"
    hash=$(sha256sum < "$password" | cut -d ' ' -f 1)
    echo "$user $role $rest #$hash" >> "$new"
    echo "$scheme://$role:$(cat "$password")@$address/0" > "$directory/$role/redis-url"
done
printf '{"%s://metrics@%s": "%s"}\n' "$scheme" "$address" "$(cat "$directory/metrics/password")" \
    > "$directory/metrics/passwords.json"
# The server runs as another user, and hashes of random passwords are no secret.
chmod 755 "$directory/redis"
chmod 644 "$new"
mv "$new" "$directory/redis/users.acl"
