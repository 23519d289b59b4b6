#!/bin/sh
# Makes a private certificate authority, and certificates for Redis, its Sentinels and its clients.
#
#     ops/redis/make-certificates.sh DIRECTORY NAME...
#
# NAMEs are all names and addresses by which servers and Sentinels are reached: a certificate that
# lacks one is refused there. There will be
#
#     DIRECTORY/tls/ca.crt                   for everybody: whom to trust
#     DIRECTORY/tls/server.crt, server.key   for servers and Sentinels
#     DIRECTORY/tls/client.crt, client.key   for clients, where `tls-auth-clients yes` wants them
#     DIRECTORY/tls/ca.key                   whoever has it makes certificates: keep it elsewhere
#
# Run it again before the certificates end, after 825 days, or for other names: the authority stays
# (ten years), so that old and new ones are trusted side by side.
set -eu
umask 077

[ $# -ge 2 ] || { echo "usage: $0 DIRECTORY NAME..." >&2; exit 2; }
directory=$1 tls=$1/tls
shift

names=''
for name in "$@"; do
    case $name in
        *:*) kind=IP ;;
        *[!0-9.]*) kind=DNS ;;
        *) kind=IP ;;
    esac
    names="$names${names:+,}$kind:$name"
done

mkdir -p "$tls"
key() { # made once
    [ -s "$1" ] ||
        openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2> /dev/null
}

if [ ! -s "$tls/ca.crt" ]; then
    key "$tls/ca.key"
    openssl req -x509 -new -key "$tls/ca.key" -days 3650 -subj "/CN=Penstock Redis authority" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign \
        -out "$tls/ca.crt"
fi

# A server is a client too: a replica of its primary, a Sentinel of both.
certify() { # who, what for, names
    key "$tls/$1.key"
    openssl req -new -key "$tls/$1.key" -subj "/CN=penstock-$1" -out "$tls/$1.csr"
    {
        echo basicConstraints=critical,CA:FALSE
        echo keyUsage=critical,digitalSignature
        echo "extendedKeyUsage=$2"
        [ -z "$3" ] || echo "subjectAltName=$3"
    } > "$tls/$1.ext"
    openssl x509 -req -in "$tls/$1.csr" -CA "$tls/ca.crt" -CAkey "$tls/ca.key" -CAcreateserial \
        -days 825 -extfile "$tls/$1.ext" -out "$tls/$1.crt" 2> /dev/null
    rm "$tls/$1.csr" "$tls/$1.ext"
}
certify server serverAuth,clientAuth "$names"
certify client clientAuth ''

# Certificates are no secret, and are read by other users. The keys are: give server.key to the user
# that the server runs as.
chmod a+rx "$directory" "$tls"
chmod 644 "$tls/ca.crt" "$tls/server.crt" "$tls/client.crt"
