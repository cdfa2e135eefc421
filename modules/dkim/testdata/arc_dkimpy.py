# seal SELECTOR KEYFILE: seals the message on standard input for example.org, with the
# Authentication-Results of mx.example.org in it, and writes the set's fields.
# verify ZONE: says the status of the chain of the message on standard input. ZONE is a
# file of JSON: names to texts.
import json, sys
import dkim

message = sys.stdin.buffer.read()
if sys.argv[1] == "seal":
    with open(sys.argv[3], "rb") as f:
        key = f.read()
    for field in dkim.arc_sign(message, sys.argv[2].encode(), b"example.org", key, b"mx.example.org"):
        sys.stdout.buffer.write(field)
else:
    with open(sys.argv[2]) as f:
        zone = json.load(f)

    def text(name, timeout=5):
        value = zone.get(name.decode().rstrip("."))
        return value.encode() if value else None

    status, results, reason = dkim.arc_verify(message, dnsfunc=text)
    print((status or b"ended").decode())
    print(reason, file=sys.stderr)
