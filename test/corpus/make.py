#!/usr/bin/python3
"""Makes the messages of the corpus, and the zone with the keys that sign them.

    /usr/bin/python3 test/corpus/make.py && go test ./test/corpus -update

It takes Debian's python3-dkim. The keys are new each time and not kept, so that
the golden files of signed messages change too.
"""

import base64
import hashlib
import os
import subprocess
import sys
import tempfile

import dkim
from dkim.canonicalization import CanonicalizationPolicy
from dkim.crypto import RSASSA_PKCS1_v1_5_sign, parse_pem_private_key, HASH_ALGORITHMS
from nacl.signing import SigningKey

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "testdata")
NOW = 1793534400  # the clock of the test: 2026-11-01 12:00:00 UTC
CRLF = b"\r\n"


class Key:
    """A key under a selector of a domain."""

    def __init__(self, kind, bits=2048):
        self.kind = kind
        if kind == "ed25519":
            self.private = SigningKey.generate()
            self.record = "v=DKIM1; k=ed25519; p=" + base64.b64encode(bytes(self.private.verify_key)).decode()
            return
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "key.pem")
            run = lambda *a: subprocess.run(a, check=True, capture_output=True).stdout
            run("openssl", "genrsa", "-traditional", "-out", path, str(bits))
            with open(path, "rb") as f:
                self.pem = f.read()
            self.private = parse_pem_private_key(self.pem)
            der = run("openssl", "rsa", "-in", path, "-pubout", "-outform", "DER")
        self.record = "v=DKIM1; k=rsa; p=" + base64.b64encode(der).decode()

    def sign(self, data, algorithm):
        if self.kind == "ed25519":
            return self.private.sign(hashlib.sha256(data).digest()).signature
        h = HASH_ALGORITHMS[algorithm.encode()]()
        h.update(data)
        return RSASSA_PKCS1_v1_5_sign(h, self.private)


KEYS = {"rsa": Key("rsa"), "ed": Key("ed25519"), "small": Key("rsa", 1024), "tiny": Key("rsa", 768), "seal": Key("rsa")}


def crlf(text):
    """A message as it goes over the wire."""
    if isinstance(text, bytes):
        return text
    return text.replace("\n", "\r\n").encode()


def signed(message, key="rsa", domain="example.org", selector=None, canon="relaxed/relaxed", algorithm=None,
           headers=("From", "To", "Subject", "Date", "Message-ID"), more=(), length=None, drop=(), tags=None):
    """Puts a DKIM-Signature on top. tags replaces tags behind the back of the hash, as a forger would."""
    message = crlf(message)
    algorithm = algorithm or ("ed25519-sha256" if key == "ed" else "rsa-sha256")
    policy = CanonicalizationPolicy.from_c_value(canon.encode())
    fields, body = dkim.rfc822_parse(message)
    content = policy.canonicalize_body(body)
    if length is not None:
        content = content[:length]
    digest = hashlib.sha1 if algorithm.endswith("sha1") else hashlib.sha256
    values = [("v", "1"), ("a", algorithm), ("c", canon), ("d", domain), ("s", selector or key)]
    values += list(more)
    if length is not None:
        values.append(("l", str(length)))
    values += [("h", ":".join(headers)), ("bh", base64.b64encode(digest(content).digest()).decode()), ("b", "")]
    values = [(k, v) for k, v in values if k not in drop]
    text = lambda: " " + "; ".join("%s=%s" % kv for kv in values)
    policy_fields = policy.canonicalize_headers(dkim.select_headers(fields, [h.lower().encode() for h in headers]))
    data = b"".join(n + b":" + v for n, v in policy_fields)
    own = policy.canonicalize_headers([(b"DKIM-Signature", text().encode() + CRLF)])[0]
    data += own[0] + b":" + own[1].rstrip()
    values = [(k, v) if k != "b" else (k, base64.b64encode(KEYS[key].sign(data, algorithm)).decode()) for k, v in values]
    for name, value in (tags or {}).items():
        values = [(k, v) if k != name else (k, value) for k, v in values]
    # Folded in front of each tag: with simple canonicalisation the hash would not hold.
    return b"DKIM-Signature:" + text().encode() + CRLF + message


def sealed(message, domain="lists.example.com"):
    """Puts a set of ARC fields on top."""
    message = crlf(message)
    fields = dkim.arc_sign(message, b"seal", domain.encode(), KEYS["seal"].pem, domain.encode(),
                           include_headers=[b"from", b"to", b"subject", b"date", b"message-id"], timestamp=NOW - 60)
    assert fields
    return b"".join(fields) + message


def strings(text):
    return " ".join('"%s"' % text[i:i + 200] for i in range(0, len(text), 200))


def zone():
    lines = ["; Made by make.py. All that there is in the DNS of the corpus."]
    for selector, key in KEYS.items():
        for domain in ("example.org", "strict.example.net", "sub.example.org", "news.example.org", "quarantine.example.net", "none.example.net"):
            lines.append("%s._domainkey.%s. TXT %s" % (selector, domain, strings(key.record)))
    lines.append("seal._domainkey.lists.example.com. TXT " + strings(KEYS["seal"].record))
    lines.append("seal._domainkey.stranger.example.com. TXT " + strings(KEYS["seal"].record))
    rsa = KEYS["rsa"].record
    special = {
        "testing": rsa + "; t=y", "nosub": rsa + "; t=s", "sha1only": rsa + "; h=sha1", "noemail": rsa + "; s=tlsrpt",
        "revoked": "v=DKIM1; k=rsa; p=", "garbage": "v=DKIM1; k=rsa; p=!!!!", "version": "v=DKIM2; p=AAAA",
        "wrong": KEYS["small"].record, "edasrsa": rsa.replace("k=rsa", "k=ed25519"),
    }
    for selector, record in special.items():
        lines.append("%s._domainkey.example.org. TXT %s" % (selector, strings(record)))
    lines.append(ZONE)
    return "\n".join(lines)


ZONE = """
mail.example.org. A 192.0.2.10
mail.example.org. AAAA 2001:db8::10
mail.example.org. TXT "v=spf1 a -all"
10.2.0.192.in-addr.arpa. PTR mail.example.org.
example.org. MX 10 mail.example.org.
example.org. TXT "v=spf1 ip4:192.0.2.10 ip6:2001:db8::10 include:_spf.example.org -all"
_spf.example.org. TXT "v=spf1 ip4:198.51.100.0/28 ?all"
_dmarc.example.org. TXT "v=DMARC1; p=reject; rua=mailto:dmarc@example.org"
sub.example.org. TXT "v=spf1 ip4:192.0.2.10 -all"
news.example.org. TXT "v=spf1 redirect=example.org"
strict.example.net. TXT "v=spf1 ip4:192.0.2.10 -all"
_dmarc.strict.example.net. TXT "v=DMARC1; p=reject; adkim=s; aspf=s"
bounce.strict.example.net. TXT "v=spf1 ip4:192.0.2.10 -all"
quarantine.example.net. TXT "v=spf1 ip4:192.0.2.10 ~all"
_dmarc.quarantine.example.net. TXT "v=DMARC1; p=quarantine; sp=none; np=reject"
child.quarantine.example.net. A 192.0.2.77
none.example.net. TXT "v=spf1 ip4:192.0.2.10 -all"
_dmarc.none.example.net. TXT "v=DMARC1; p=none"
testing.example.net. TXT "v=spf1 -all"
_dmarc.testing.example.net. TXT "v=DMARC1; p=reject; t=y"
broken.example.net. TXT "v=spf1 ip4:192.0.2.300 -all"
_dmarc.broken.example.net. TXT "v=DMARC1; p=perhaps"
twice.example.net. TXT "v=spf1 -all"
twice.example.net. TXT "v=spf1 +all"
_dmarc.twice.example.net. TXT "v=DMARC1; p=reject"
_dmarc.twice.example.net. TXT "v=DMARC1; p=none"
soft.example.net. TXT "v=spf1 ~all"
neutral.example.net. TXT "v=spf1 ?all"
macro.example.net. TXT "v=spf1 exists:%{i}._spf.%{d} -all"
192.0.2.10._spf.macro.example.net. A 127.0.0.2
loop.example.net. TXT "v=spf1 include:loop.example.net -all"
deep.example.net. TXT "v=spf1 include:d1.example.net include:d2.example.net include:d3.example.net include:d4.example.net include:d5.example.net include:d6.example.net include:d7.example.net include:d8.example.net include:d9.example.net include:d10.example.net include:d11.example.net -all"
""" + "".join('d%d.example.net. TXT "v=spf1 ip4:203.0.113.%d ?all"\n' % (i, i) for i in range(1, 12)) + """
explained.example.net. TXT "v=spf1 -all exp=why.example.net"
why.example.net. TXT "only our own servers send for %{d}"
lists.example.com. TXT "v=spf1 ip4:198.51.100.50 -all"
lists.example.com. A 198.51.100.50
forwarder.example.com. TXT "v=spf1 ip4:198.51.100.60 -all"
stranger.example.com. TXT "v=spf1 ip4:198.51.100.70 -all"
"""


class Case:
    """One message and how it comes."""

    def __init__(self, listener="mx", ip="192.0.2.10", helo="mail.example.org", sender="alice@example.org", to="user@example.test", utf8=False):
        self.listener, self.ip, self.helo, self.sender, self.to, self.utf8 = listener, ip, helo, sender, to, utf8

    def but(self, **changes):
        other = Case(self.listener, self.ip, self.helo, self.sender, self.to, self.utf8)
        for k, v in changes.items():
            assert hasattr(other, k), k
            setattr(other, k, v)
        return other


GOOD = Case()
SCAN = Case(listener="scan")
FORGER = Case(ip="203.0.113.66", helo="evil.example.com")
LIST = Case(ip="198.51.100.50", helo="lists.example.com", sender="announce-bounces@lists.example.com")
COUNT = {}


def add(name, message, case=GOOD):
    path = os.path.join(HERE, name + ".eml")
    assert name not in COUNT, name
    COUNT[name] = True
    os.makedirs(os.path.dirname(path), exist_ok=True)
    head = "listener: %s\nip: %s\nhelo: %s\nfrom: %s\nto: %s\nutf8: %s\n\n" % (
        case.listener, case.ip, case.helo, case.sender, case.to, "yes" if case.utf8 else "no")
    with open(path, "wb") as f:
        f.write(head.encode() + crlf(message))


def letter(body="Hello.\n", sender="Alice <alice@example.org>", subject="Greetings", more="", to="user@example.test"):
    return "From: %s\nTo: %s\nSubject: %s\nDate: Sun, 01 Nov 2026 11:59:00 +0000\nMessage-ID: <m1@example.org>\n%s\n%s" % (
        sender, to, subject, more, body)


def mime(content_type, body, more="", **kw):
    return letter(body, more="MIME-Version: 1.0\nContent-Type: %s\n%s" % (content_type, more), **kw)


def multipart(parts, kind="mixed", boundary="=_b", end=True, **kw):
    body = "This is a message of several parts.\n" + "".join("--%s\n%s\n" % (boundary, p) for p in parts) + ("--%s--\n" % boundary if end else "")
    return mime('multipart/%s; boundary="%s"' % (kind, boundary), body, **kw)


def part(content_type, body, more=""):
    return "Content-Type: %s\n%s\n%s" % (content_type, more, body)


def attached(name, body, content_type="application/octet-stream", encoding="base64"):
    text = body if encoding != "base64" else "\n".join(base64.b64encode(body.encode("latin-1")).decode()[i:i + 76] for i in range(0, len(body) * 2, 76)).strip() + "\n"
    return part(content_type, text, 'Content-Disposition: attachment; filename=%s\nContent-Transfer-Encoding: %s\n' % (name, encoding))


def clean():
    add("clean/plain", letter())
    add("clean/signed", signed(letter()))
    add("clean/signed-ed25519", signed(letter(), key="ed"))
    add("clean/signed-twice", signed(signed(letter(), key="ed"), headers=("From", "Subject")))
    add("clean/ipv6", letter(), GOOD.but(ip="2001:db8::10"))
    add("clean/null-reverse-path", letter(sender="<postmaster@mail.example.org>", subject="Undelivered"), GOOD.but(sender=""))
    add("clean/html", mime("text/html; charset=utf-8", "<html><body><p>Hello.</p></body></html>\n"))
    add("clean/alternative", multipart([part("text/plain", "Hello.\n"), part("text/html", "<p>Hello.</p>\n")], kind="alternative"))
    add("clean/related", multipart([part("text/html", '<img src="cid:a">\n'), attached("a.png", "\x89PNG\r\n\x1a\n" + "x" * 50, "image/png")], kind="related"))
    add("clean/pdf", multipart([part("text/plain", "See the paper.\n"), attached('"paper.pdf"', "%PDF-1.4\n" + "y" * 300, "application/pdf")]))
    add("clean/encoded-subject", letter(subject="=?utf-8?B?R3LDvMOfZQ==?= =?iso-8859-1?Q?aus_M=FCnchen?="))
    add("clean/quoted-printable", mime("text/plain; charset=iso-8859-1", "Sch=F6ne Gr=FC=DFe=\n aus M=FCnchen\n", more="Content-Transfer-Encoding: quoted-printable\n"))
    add("clean/eight-bit", mime("text/plain; charset=utf-8", "Grüße\n", more="Content-Transfer-Encoding: 8bit\n"))
    add("clean/internationalised", letter(sender="Jürgen <jürgen@example.org>", subject="Grüße"), GOOD.but(sender="jürgen@example.org", utf8=True))
    add("clean/long-line", letter("x" * 996 + "\n"))
    add("clean/dots", letter(".\n..\n...\n.hidden\n"))
    add("clean/empty-body", letter(""))
    add("clean/calendar", multipart([part("text/plain", "Lunch?\n"), part("text/calendar; method=REQUEST", "BEGIN:VCALENDAR\nEND:VCALENDAR\n")], kind="alternative"))
    add("clean/delivery-status", multipart([part("text/plain", "It failed.\n"), part("message/delivery-status", "Reporting-MTA: dns; mail.example.org\n\nFinal-Recipient: rfc822; bob@example.com\nAction: failed\nStatus: 5.1.1\n"),
                                            part("message/rfc822", letter("Original.\n"))], kind='report; report-type=delivery-status', sender="<mailer-daemon@mail.example.org>"), GOOD.but(sender=""))
    add("clean/pgp", multipart([part("text/plain", "Signed.\n"), part("application/pgp-signature", "-----BEGIN PGP SIGNATURE-----\n=abcd\n-----END PGP SIGNATURE-----\n")], kind="signed; micalg=pgp-sha256; protocol=\"application/pgp-signature\""))
    add("clean/folded", letter(more="X-Long: a\n b\n\tc\nReferences: <a@example.org>\n <b@example.org>\n"))
    add("clean/large", letter(("All work and no play makes mail a dull thing.\n" * 4400)))
    add("clean/many-recipients-in-to", letter(to=",\n ".join("u%d@example.test" % i for i in range(200))))
    add("clean/subaddress", signed(letter()), GOOD.but(to="user+tag@example.test"))
    add("clean/unknown-recipient", letter(), GOOD.but(to="nobody@example.test"))
    add("clean/relay", letter(), GOOD.but(to="bob@example.com"))


def spf():
    for name, domain in {"softfail": "soft", "neutral": "neutral", "permerror-address": "broken", "permerror-twice": "twice", "macro": "macro", "loop": "loop",
                         "too-many-lookups": "deep", "explained": "explained", "none": "silent", "fail": "testing"}.items():
        add("spf/" + name, letter(sender="a@%s.example.net" % domain), GOOD.but(sender="a@%s.example.net" % domain))
    add("spf/macro-fail", letter(sender="a@macro.example.net"), FORGER.but(sender="a@macro.example.net"))
    add("spf/include-pass", letter(), GOOD.but(ip="198.51.100.5"))
    add("spf/redirect", letter(sender="a@news.example.org"), GOOD.but(sender="a@news.example.org"))
    add("spf/helo-only", letter(sender="<postmaster@mail.example.org>"), GOOD.but(sender=""))
    add("spf/helo-fail", letter(sender="<postmaster@mail.example.org>"), FORGER.but(sender="", helo="mail.example.org"))
    add("spf/helo-literal", letter(), GOOD.but(helo="[192.0.2.10]"))
    add("spf/forged", letter(), FORGER)
    add("spf/forged-signed", signed(letter()), FORGER)
    add("spf/ipv6-fail", letter(), GOOD.but(ip="2001:db8::66"))


def dkim_cases():
    body = "Hello,  world. \n\nTwo  lines.\n\n\n"
    for key in ("rsa", "ed"):
        for canon in ("simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed"):
            name = "dkim/%s-%s" % (key, canon.replace("/", "-"))
            s = signed(letter(body), key=key, canon=canon)
            add(name, s, FORGER)
            add(name + "-body-changed", s.replace(b"Two  lines", b"Two lies"), FORGER)
            add(name + "-body-spaces", s.replace(b"Two  lines.", b"Two lines. "), FORGER)
            add(name + "-subject-changed", s.replace(b"Greetings", b"Invoice"), FORGER)
            add(name + "-header-spaces", s.replace(b"Subject: Greetings", b"SUBJECT:   Greetings "), FORGER)
    plain = letter(body)
    cases = {
        "rsa-sha1": signed(plain, algorithm="rsa-sha1"),
        "small-key": signed(plain, key="small"), "tiny-key": signed(plain, key="tiny"),
        "no-key": signed(plain, selector="missing"), "revoked": signed(plain, selector="revoked"), "garbage-key": signed(plain, selector="garbage"),
        "key-version": signed(plain, selector="version"), "wrong-key": signed(plain, selector="wrong"), "key-of-other-type": signed(plain, key="ed", selector="edasrsa", algorithm="ed25519-sha256"),
        "testing": signed(plain, selector="testing"), "testing-changed": signed(plain, selector="testing").replace(b"Hello", b"Hallo"),
        "nosub": signed(plain, selector="nosub"), "nosub-below": signed(plain, selector="nosub", more=[("i", "@sub.example.org")]),
        "key-hash": signed(plain, selector="sha1only"), "key-service": signed(plain, selector="noemail"),
        "auid": signed(plain, more=[("i", "alice@example.org")]), "auid-below": signed(plain, more=[("i", "@a.b.example.org")]),
        "auid-elsewhere": signed(plain, more=[("i", "@example.net")]), "auid-case": signed(plain, more=[("i", "alice@EXAMPLE.org")]),
        "expired": signed(plain, more=[("t", str(NOW - 9000)), ("x", str(NOW - 1000))]), "not-expired": signed(plain, more=[("t", str(NOW - 9000)), ("x", str(NOW + 1000))]),
        "expires-before": signed(plain, more=[("t", str(NOW)), ("x", str(NOW - 10))]), "from-the-future": signed(plain, more=[("t", str(NOW + 86400 * 30))]),
        "length": signed(plain, length=5), "length-exact": signed(plain, length=len("Hello, world.\r\n\r\nTwo lines.\r\n")),
        "without-from": signed(plain, headers=("To", "Subject")), "version": signed(plain, tags={"v": "2"}), "version-missing": signed(plain, drop=("v",)),
        "no-domain": signed(plain, drop=("d",)), "no-selector": signed(plain, drop=("s",)), "no-canon": signed(plain, canon="simple/simple", drop=("c",)),
        "bad-canon": signed(plain, tags={"c": "loose/loose"}), "bad-algorithm": signed(plain, tags={"a": "rsa-md5"}), "bad-base64": signed(plain, tags={"b": "%%%"}),
        "empty-b": signed(plain, tags={"b": ""}), "bad-body-hash": signed(plain, tags={"bh": base64.b64encode(b"x" * 32).decode()}),
        "unknown-tag": signed(plain, more=[("zz", "future")]), "query": signed(plain, more=[("q", "dns/txt")]), "query-unknown": signed(plain, more=[("q", "http")]),
        "tag-twice": signed(plain).replace(b"DKIM-Signature: v=1;", b"DKIM-Signature: v=1; v=1;"), "domain-case": signed(plain, domain="EXAMPLE.Org"),
        "oversigned": signed(plain, headers=("From", "From", "Subject", "Subject", "Date")),
        "oversigned-added": b"Subject: Another\r\n" + signed(plain, headers=("From", "Subject", "Subject", "Date")),
        "second-subject": b"Subject: Another\r\n" + signed(plain, headers=("From", "Subject", "Date")),
        "third-party": signed(plain, domain="strict.example.net"), "below": signed(plain, domain="sub.example.org"),
        "one-good-one-bad": signed(signed(plain), key="ed", tags={"bh": base64.b64encode(b"x" * 32).decode()}),
        "empty": b"DKIM-Signature: \r\n" + crlf(plain), "no-tags": b"DKIM-Signature: this is none\r\n" + crlf(plain),
        "thirty": b"".join(b"DKIM-Signature: v=1; a=rsa-sha256; d=d%d.example.org; s=s; h=from; bh=AAAA; b=AAAA\r\n" % i for i in range(30)) + crlf(plain),
        "long-h": b"DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s=rsa; h=from" + b":x" * 5000 + b"; bh=AAAA; b=AAAA\r\n" + crlf(plain),
        "comment-bomb": b"DKIM-Signature: " + b"v=1;" * 3000 + b"\r\n" + crlf(plain),
    }
    for name, message in cases.items():
        add("dkim/" + name, message, FORGER)


def dmarc():
    def forged(domain):
        return FORGER.but(sender="x@evil.example.com")
    for domain in ("strict", "quarantine", "none", "testing", "broken", "twice", "silent"):
        add("dmarc/forged-" + domain, letter(sender="a@%s.example.net" % domain), forged(domain))
        add("dmarc/spf-" + domain, letter(sender="a@%s.example.net" % domain), GOOD.but(sender="a@%s.example.net" % domain))
    for domain in ("strict", "quarantine", "none"):
        add("dmarc/dkim-" + domain, signed(letter(sender="a@%s.example.net" % domain), domain="%s.example.net" % domain), forged(domain))
    add("dmarc/relaxed-dkim-above", signed(letter(sender="a@sub.example.org")), forged(""))
    add("dmarc/relaxed-dkim-below", signed(letter(), domain="sub.example.org"), forged(""))
    add("dmarc/relaxed-spf-below", letter(), GOOD.but(sender="bounce@sub.example.org"))
    add("dmarc/strict-spf-below", letter(sender="a@strict.example.net"), GOOD.but(sender="x@bounce.strict.example.net"))
    add("dmarc/strict-case", letter(sender="a@STRICT.example.NET"), GOOD.but(sender="a@strict.example.net"))
    add("dmarc/other-domain-passes", signed(letter(), domain="strict.example.net"), GOOD.but(sender="a@strict.example.net"))
    add("dmarc/subdomain-policy", letter(sender="a@child.quarantine.example.net"), forged(""))
    add("dmarc/nonexistent-subdomain", letter(sender="a@nowhere.quarantine.example.net"), forged(""))
    add("dmarc/two-from-fields", letter(more="From: <b@none.example.net>\n"), GOOD)
    add("dmarc/two-authors", letter(sender="a@example.org, b@none.example.net"), GOOD)
    add("dmarc/two-authors-one-domain", letter(sender="a@example.org, b@example.org"), GOOD)
    add("dmarc/group", letter(sender="undisclosed:;"), GOOD)
    add("dmarc/no-from", letter().replace("From: Alice <alice@example.org>\n", ""), GOOD)
    add("dmarc/empty-from", letter(sender=""), GOOD)
    add("dmarc/from-without-domain", letter(sender="alice"), GOOD)
    add("dmarc/from-literal", letter(sender="alice@[192.0.2.10]"), GOOD)
    add("dmarc/from-top-level", letter(sender="alice@org"), GOOD)
    add("dmarc/from-in-name", letter(sender='"security@example.org" <x@none.example.net>'), forged(""))
    add("dmarc/from-comment", letter(sender="(a (nested) comment) alice@example.org (again)"), GOOD)
    add("dmarc/from-encoded", letter(sender="=?utf-8?Q?alice=40example=2Eorg?= <x@none.example.net>"), forged(""))
    add("dmarc/from-route", letter(sender="<@relay.example.com:alice@example.org>"), forged(""))
    add("dmarc/from-idn", letter(sender="a@xn--bcher-kva.example"), forged(""))
    add("dmarc/null-sender-helo", letter(sender="postmaster@mail.example.org"), GOOD.but(sender=""))


def lists():
    post = letter("The news.\n", to="announce@lists.example.com")
    good = signed(post)
    add("list/unchanged", b"List-Id: <announce.lists.example.com>\r\n" + good, LIST)
    changed = good.replace(b"Greetings", b"[announce] Greetings").replace(b"The news.\r\n", b"The news.\r\n-- \r\nA list.\r\n")
    add("list/changed", b"List-Id: <announce.lists.example.com>\r\n" + changed, LIST)
    results = b"Authentication-Results: lists.example.com; spf=pass smtp.mailfrom=example.org; dkim=pass header.d=example.org; dmarc=pass header.from=example.org\r\n"
    add("list/sealed", sealed(results + changed), LIST)
    add("list/sealed-and-changed-again", sealed(results + changed).replace(b"A list.", b"A lost."), LIST)
    add("list/sealed-by-stranger", sealed(results.replace(b"lists.example.com", b"stranger.example.com") + changed, domain="stranger.example.com"), FORGER.but(sender="x@stranger.example.com"))
    add("list/sealed-failing", sealed(results.replace(b"=pass", b"=fail") + changed), LIST)
    broken = sealed(results + changed)
    add("list/seal-instance-missing", broken.replace(b"ARC-Seal: i=1", b"ARC-Seal: i=2"), LIST)
    add("list/seal-gone", broken.replace(b"ARC-Seal:", b"X-Was-Seal:", 1), LIST)
    add("list/seal-cv-fail", broken.replace(b"cv=none", b"cv=fail"), LIST)
    add("list/seal-twice", broken[broken.index(b"ARC-Seal"):broken.index(b"ARC-Message-Signature")] + broken, LIST)
    add("list/sixty-instances", b"".join(b"ARC-Seal: i=%d; a=rsa-sha256; cv=pass; d=lists.example.com; s=seal; b=AAAA\r\nARC-Message-Signature: i=%d; a=rsa-sha256; d=lists.example.com; s=seal; h=from; bh=AAAA; b=AAAA\r\nARC-Authentication-Results: i=%d; lists.example.com; none\r\n" % (i, i, i) for i in range(60, 0, -1)) + crlf(post), LIST)
    add("list/munged-from", signed(letter("The news.\n", sender='"Alice via announce" <announce@lists.example.com>'), domain="example.org"), LIST)
    forward = Case(ip="198.51.100.60", helo="forwarder.example.com")
    add("forward/as-it-is", letter(), forward)
    add("forward/signed", good, forward)
    add("forward/srs", good, forward.but(sender="SRS0=ab12=XY=example.org=alice@forwarder.example.com"))
    add("forward/srs-unsigned", letter(), forward.but(sender="SRS0=ab12=XY=example.org=alice@forwarder.example.com"))
    add("forward/trace-fields", b"".join(b"Received: from h%d.example.com by h%d.example.com; Sun, 01 Nov 2026 11:%02d:00 +0000\r\n" % (i, i + 1, i) for i in range(20)) + good, forward)
    add("forward/loop", b"Received: from a.example.com by b.example.com; Sun, 01 Nov 2026 11:00:00 +0000\r\n" * 150 + good, forward)
    add("forward/resent", letter(more="Resent-From: bob@forwarder.example.com\nResent-To: user@example.test\nResent-Date: Sun, 01 Nov 2026 11:58:00 +0000\n"), forward)


def results():
    claims = {
        "ours": "mx.example.test; dmarc=pass header.from=example.org", "ours-version": "mx.example.test 1; spf=pass smtp.mailfrom=example.org",
        "ours-case": "MX.Example.TEST; dkim=pass header.d=example.org", "ours-comment": "(a; comment) mx.example.test (b); dkim=pass",
        "ours-quoted": '"mx.example.test"; dkim=pass', "ours-folded": "\n mx.example.test;\n\tdkim=pass", "ours-nested": "((mx)(x(y))) mx.example.test; none",
        "elsewhere": "mail.example.com; spf=pass smtp.mailfrom=example.org", "below": "sub.mx.example.test; spf=pass", "empty": "", "garbage": ";;;===((", "unclosed": "(mx.example.test; dkim=pass",
        "escaped": "(\\) mx.example.test) mx.example.test; dkim=pass", "ours-no-results": "mx.example.test; none", "ours-trailing-dot": "mx.example.test.; dkim=pass",
    }
    for name, value in claims.items():
        add("authres/" + name, letter(more="Authentication-Results: %s\n" % value), FORGER)
    add("authres/many", letter(more="Authentication-Results: mx.example.test; dkim=pass\n" * 200), FORGER)
    add("authres/received-spf", letter(more="Received-SPF: pass (mx.example.test: fine)\n"), FORGER)


EICAR, GTUBE = "{{eicar}}", "{{gtube}}"


def content():
    text = part("text/plain", "See the file.\n")
    add("virus/plain", letter(EICAR + "\n"), SCAN)
    add("virus/attached", multipart([text, part("application/octet-stream", EICAR + "\n", "Content-Disposition: attachment; filename=test.bin\n")]), SCAN)
    add("virus/base64", multipart([text, part("application/octet-stream", "{{base64 eicar}}\n", "Content-Disposition: attachment; filename=test.bin\nContent-Transfer-Encoding: base64\n")]), SCAN)
    add("virus/zip", multipart([text, part("application/zip", "{{base64 zip eicar}}\n", "Content-Disposition: attachment; filename=test.zip\nContent-Transfer-Encoding: base64\n")]), SCAN)
    add("virus/zip-in-zip", multipart([text, part("application/zip", "{{base64 zip zip eicar}}\n", "Content-Disposition: attachment; filename=test.zip\nContent-Transfer-Encoding: base64\n")]), SCAN)
    add("virus/in-message", multipart([text, part("message/rfc822", multipart([part("application/octet-stream", "{{base64 eicar}}\n", "Content-Transfer-Encoding: base64\n")], boundary="inner"))]), SCAN)
    add("virus/harmless", letter("X5O is how it begins.\n"), SCAN)
    add("virus/forged-status", letter(more="X-Virus-Status: Clean\nX-Virus-Scanned: by somebody\n"), SCAN)
    names = {"exe": "a.exe", "double": "invoice.pdf.exe", "upper": "A.EXE", "js": "a.js", "spaces": '"a.exe  "', "trailing-dot": '"a.exe."', "right-to-left": '"=?utf-8?B?YeKArmZkcC5leGU=?="',
             "encoded": "=?utf-8?Q?a=2Eexe?=", "quoted-pair": '"a\\.exe"', "harmless": "exe.txt", "no-name": '""', "path": '"../../a.exe"', "long": '"%s.exe"' % ("a" * 300)}
    for name, value in names.items():
        add("attachment/name-" + name, multipart([text, attached(value, "not a program")]), SCAN)
    add("attachment/name-2231", multipart([text, part("application/octet-stream", "x\n", "Content-Disposition: attachment; filename*=utf-8''a%2Eexe\n")]), SCAN)
    add("attachment/name-continued", multipart([text, part("application/octet-stream", "x\n", 'Content-Disposition: attachment; filename*0="a.e"; filename*1="xe"\n')]), SCAN)
    add("attachment/name-in-type", multipart([text, part("application/octet-stream; name=a.exe", "x\n")]), SCAN)
    add("attachment/program-by-content", multipart([text, attached("report.txt", "MZ\x90\x00" + "x" * 200)]), SCAN)
    add("attachment/exe-in-zip", multipart([text, part("application/zip", "{{base64 zip-exe}}\n", "Content-Disposition: attachment; filename=a.zip\nContent-Transfer-Encoding: base64\n")]), SCAN)
    add("attachment/exe-in-zip-in-zip", multipart([text, part("application/zip", "{{base64 zip zip-exe}}\n", "Content-Disposition: attachment; filename=a.zip\nContent-Transfer-Encoding: base64\n")]), SCAN)
    add("attachment/zip-by-other-name", multipart([text, part("image/png", "{{base64 zip-exe}}\n", "Content-Disposition: attachment; filename=a.png\nContent-Transfer-Encoding: base64\n")]), SCAN)
    add("attachment/zip-encrypted", multipart([text, part("application/zip", "{{base64 zip-encrypted}}\n", "Content-Disposition: attachment; filename=a.zip\nContent-Transfer-Encoding: base64\n")]), SCAN)
    add("attachment/zip-cut", multipart([text, part("application/zip", base64.b64encode(b"PK\x03\x04" + b"\x00" * 20).decode() + "\n", "Content-Disposition: attachment; filename=a.zip\nContent-Transfer-Encoding: base64\n")]), SCAN)
    add("attachment/in-message", multipart([text, part("message/rfc822", multipart([attached("a.exe", "x")], boundary="inner"))]), SCAN)
    add("attachment/uuencoded", letter("begin 644 a.exe\n#0V%T\n`\nend\n"), SCAN)
    add("spam/gtube", letter(GTUBE + "\n"), SCAN)
    add("spam/gtube-signed", signed(letter("Hello.\n")).replace(b"Hello.", GTUBE.encode()), SCAN)
    add("spam/lanterns", letter("Buy one hundred lanterns now.\n"), SCAN)
    add("spam/lanterns-and-more", letter("Buy one hundred lanterns now.\nAlso one thousand ropes.\n"), SCAN)
    add("spam/ropes", letter("One thousand ropes.\n"), SCAN)
    add("spam/base64", mime("text/plain", base64.b64encode(b"Buy one hundred lanterns now. One thousand ropes.\n").decode() + "\n", more="Content-Transfer-Encoding: base64\n"), SCAN)
    add("spam/html", mime("text/html", "<p>Buy one hundred <b>lanterns</b> now.</p>\n"), SCAN)
    add("spam/forged-fields", letter(more="X-Spam-Status: No, score=-100\nX-Spam-Flag: NO\nX-Spam-Score: -100\n"), SCAN)
    add("spam/ham", letter("Lunch is at noon.\n"), SCAN)
    add("spam/unproven", letter("One thousand ropes.\n"), SCAN.but(ip="203.0.113.66", helo="evil.example.com", sender="x@soft.example.net"))


def broken():
    def raw(name, message, case=GOOD):
        add("broken/" + name, message if isinstance(message, bytes) else crlf(message), case)
    raw("empty", b"")
    raw("only-empty-line", b"\r\n")
    raw("only-body", "This is no header at all.\nNor this.\n")
    raw("header-without-body", "Subject: x\nFrom: alice@example.org\n")
    raw("header-without-end", b"Subject: x")
    raw("line-without-colon", letter(more="this is no field\n"))
    raw("space-before-colon", letter(more="X-Field : y\n"))
    raw("empty-name", letter(more=": y\n"))
    raw("begins-with-space", " X: y\n" + letter())
    raw("mbox-from", "From alice@example.org Sun Nov  1 12:00:00 2026\n" + letter())
    raw("bare-lf", b"Subject: x\nFrom: alice@example.org\n\nBody\n")
    raw("bare-cr", crlf(letter("a\n")).replace(b"a\r\n", b"a\rb\r\n"))
    raw("nul", crlf(letter("a\0b\n")))
    raw("smuggled", crlf(letter("a\n")).replace(b"a\r\n", b"a\n.\nMAIL FROM:<x@example.org>\r\n"))
    raw("line-too-long", letter("x" * 5000 + "\n"))
    raw("header-line-long", letter(more="X-Long: " + "y" * 900 + "\n"))
    raw("header-huge", letter(more="".join("X-F%d: %s\n" % (i, "z" * 900) for i in range(300))))
    raw("many-fields", letter(more="X-F: y\n" * 5000))
    raw("eight-bit-header", crlf(letter(subject="SUBJECT")).replace(b"SUBJECT", b"Gr\xfc\xdfe"))
    raw("two-subjects", letter(more="Subject: Another\n"))
    raw("two-dates", letter(more="Date: Mon, 02 Nov 2026 12:00:00 +0000\n"))
    raw("no-date", letter().replace("Date: Sun, 01 Nov 2026 11:59:00 +0000\n", ""))
    raw("bad-date", letter().replace("Sun, 01 Nov 2026 11:59:00 +0000", "yesterday"))
    raw("no-message-id", letter().replace("Message-ID: <m1@example.org>\n", ""))
    raw("bad-message-id", letter().replace("<m1@example.org>", "<<<>>> (\x7f) \x08 <"))
    raw("unterminated-comment", letter(sender="(((((alice@example.org"))
    raw("deep-comments", letter(sender="(" * 2000 + ")" * 2000 + " alice@example.org"))
    raw("unterminated-quote", letter(sender='"alice <alice@example.org>'))
    raw("many-authors", letter(sender=",\n ".join("a%d@example.org" % i for i in range(1500))))
    raw("long-local-part", letter(sender="a" * 600 + "@example.org"))
    raw("encoded-word-bomb", letter(subject="=?utf-8?Q?a?= " * 60))
    raw("encoded-word-bad", letter(subject="=?utf-8?X?a?= =?nonsense?B?!!!?= =?utf-8?B?/w==?="))
    for name, message in {
        "multipart-without-boundary": mime("multipart/mixed", "--x\n\nText\n--x--\n"),
        "multipart-empty-boundary": mime('multipart/mixed; boundary=""', "--\n\nText\n----\n"),
        "multipart-unterminated": multipart([part("text/plain", "x\n")], end=False),
        "multipart-no-parts": mime('multipart/mixed; boundary="b"', "nothing\n"),
        "multipart-only-end": mime('multipart/mixed; boundary="b"', "--b--\n"),
        "multipart-boundary-in-text": multipart([part("text/plain", "--=_b is a line\n--=_bx\n")]),
        "multipart-same-boundary": multipart([part('multipart/mixed; boundary="=_b"', "--=_b\n\nx\n--=_b--\n")]),
        "multipart-prefix-boundary": multipart([part('multipart/mixed; boundary="=_b2"', "--=_b2\n\nx\n--=_b2--\n")]),
        "multipart-many-parts": multipart([part("text/plain", "x\n")] * 3000),
        "base64-garbage": mime("application/octet-stream", "!!!!\n====\nAAA\n", more="Content-Transfer-Encoding: base64\n"),
        "quoted-printable-garbage": mime("text/plain", "=\n=ZZ=4\n=", more="Content-Transfer-Encoding: quoted-printable\n"),
        "encoding-unknown": mime("text/plain", "x\n", more="Content-Transfer-Encoding: rot13\n"),
        "charset-unknown": mime("text/plain; charset=klingon", "x\n"),
        "type-garbage": mime("text/////;;;=;charset", "x\n"), "type-empty": mime("", "x\n"), "type-twice": mime("text/plain", "x\n", more="Content-Type: text/html\n"),
        "parameter-many": mime("text/plain" + "".join(";\n a%d=b" % i for i in range(2000)), "x\n"),
        "parameter-continued": mime("text/plain" + "".join(";\n n*%d=x" % i for i in range(1000)), "x\n"),
        "disposition-garbage": multipart([part("text/plain", "x\n", "Content-Disposition: ;;;\n")]),
    }.items():
        raw(name, message, SCAN)
    deep = "x\n"
    for i in range(120):
        deep = "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n%s\n--b%d--\n" % (i, i, deep, i)
    raw("nested-multiparts", "From: alice@example.org\nMIME-Version: 1.0\n" + deep, SCAN)
    deep = letter("x\n")
    for _ in range(60):
        deep = "From: alice@example.org\nMIME-Version: 1.0\nContent-Type: message/rfc822\n\n" + deep
    raw("nested-messages", deep, SCAN)
    raw("zip-bomb", multipart([part("application/zip", "{{base64 zip-bomb}}\n", "Content-Disposition: attachment; filename=b.zip\nContent-Transfer-Encoding: base64\n")]), SCAN)
    raw("received-forged", letter(more="Received: from localhost (localhost [127.0.0.1]) by mx.example.test with ESMTP id x; Sun, 01 Nov 2026 11:00:00 +0000\n"))
    raw("return-path-forged", "Return-Path: <boss@example.test>\n" + letter())
    raw("tags-forged", "X-Mox-Like-Tags: dmarc=pass\n" + letter())


def main():
    for name in os.listdir(HERE):
        path = os.path.join(HERE, name)
        if os.path.isdir(path):
            for f in os.listdir(path):
                if f.endswith(".eml"):
                    os.remove(os.path.join(path, f))
    for family in (clean, spf, dkim_cases, dmarc, lists, results, content, broken):
        family()
    with open(os.path.join(HERE, "zone"), "w") as f:
        f.write(zone())
    print(len(COUNT), "messages", file=sys.stderr)


main()
