package main

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	mathrand "math/rand/v2"
)

const (
	sender    = "bob@example.org"
	recipient = "alice@example.test"
	selector  = "s2026"
)

// signer signs messages by DKIM (RFC 6376): simple/simple, rsa-sha256, 2048 bits.
type signer struct{ key *rsa.PrivateKey }

func newSigner() (*signer, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	return &signer{key}, err
}

// record is the TXT record of the key.
func (s *signer) record() (string, error) {
	public, err := x509.MarshalPKIXPublicKey(&s.key.PublicKey)
	return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(public), err
}

// sign gives the field for a header section whose fields are signed in their order.
func (s *signer) sign(header []string, names string, bodyHash [32]byte) (string, error) {
	field := "DKIM-Signature: v=1; a=rsa-sha256; c=simple/simple; d=example.org; s=" + selector + "; h=" + names +
		"; bh=" + base64.StdEncoding.EncodeToString(bodyHash[:]) + "; b="
	h := sha256.New()
	for _, f := range header {
		h.Write([]byte(f))
	}
	h.Write([]byte(field))
	signature, err := rsa.SignPKCS1v15(nil, s.key, crypto.SHA256, h.Sum(nil))
	return field + base64.StdEncoding.EncodeToString(signature) + "\r\n", err
}

// newBody makes a body of about a size: text and a file in base64, which is the
// same for all messages, so that this program stays small itself.
func newBody(size int) []byte {
	var b bytes.Buffer
	b.Grow(size + 200)
	b.WriteString("--x\r\nContent-Type: text/plain\r\n\r\nSee the file.\r\n" +
		"--x\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n" +
		"Content-Disposition: attachment; filename=\"data.bin\"\r\n\r\n")
	random := mathrand.NewChaCha8([32]byte{1})
	line := make([]byte, 57)
	for b.Len() < size {
		_, _ = random.Read(line) // it never fails
		b.Write(base64.StdEncoding.AppendEncode(b.AvailableBuffer(), line))
		b.WriteString("\r\n")
	}
	b.WriteString("--x--\r\n")
	return b.Bytes()
}

// newHead makes the header section of a message, with an empty line.
func newHead(from string, n int, sign func(header []string, names string) (string, error)) (string, error) {
	header := []string{
		"From: <" + from + ">\r\n",
		"To: <" + recipient + ">\r\n",
		fmt.Sprintf("Subject: Large %d\r\n", n),
		"Date: Sun, 01 Nov 2026 12:00:00 +0000\r\n",
		fmt.Sprintf("Message-ID: <large.%d.%s>\r\n", n, from),
		"MIME-Version: 1.0\r\n",
		"Content-Type: multipart/mixed; boundary=x\r\n",
	}
	var head string
	if sign != nil {
		field, err := sign(header, "From:To:Subject:Date:Message-ID:MIME-Version:Content-Type")
		if err != nil {
			return "", err
		}
		head = field
	}
	for _, f := range header {
		head += f
	}
	return head + "\r\n", nil
}
