# sign SELECTOR=ALGORITHM=KEYFILE...: signs the message on standard input for
# example.org by each key in all canonicalizations, and writes the signatures' fields.
# verify ZONE: says pass or fail of each signature of the message on standard input.
# ZONE is a file of JSON: names to texts.
import base64, json, sys
import dkim

message = sys.stdin.buffer.read()
if sys.argv[1] == "sign":
    for argument in sys.argv[2:]:
        selector, algorithm, path = argument.split("=", 2)
        with open(path, "rb") as f:
            key = f.read()
        for header in (b"simple", b"relaxed"):
            for body in (b"simple", b"relaxed"):
                sys.stdout.buffer.write(dkim.sign(message, selector.encode(), b"example.org", key,
                    canonicalize=(header, body), signature_algorithm=algorithm.encode()))
else:
    with open(sys.argv[2]) as f:
        zone = json.load(f)

    def text(name, timeout=5):
        value = zone.get(name.decode().rstrip("."))
        return value.encode() if value else None

    d = dkim.DKIM(message)
    count = sum(1 for name, _ in d.headers if name.lower() == b"dkim-signature")
    for i in range(count):
        try:
            good = d.verify(idx=i, dnsfunc=text)
        except dkim.DKIMException as e:
            good = False
            print(e, file=sys.stderr)
        print("pass" if good else "fail")
