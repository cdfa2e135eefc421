package sasl

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/mox-like/mox-like/core/mail"
)

// clientFirst is the first message of a client (RFC 5802 section 7).
type clientFirst struct {
	// header is gs2-header, which the last message repeats.
	header   string
	username string
	nonce    string
	// bare is client-first-message-bare.
	bare string
}

// clientFinal is the last message of a client.
type clientFinal struct {
	header []byte
	nonce  string
	proof  [sha256.Size]byte
	// withoutProof is client-final-message-without-proof.
	withoutProof string
}

// scramFirst answers the client's first message with the salt, also when the
// user is unknown: keys sees to that.
func scramFirst(keys func(string) (mail.ScramKeys, error), login func(*mail.Credentials) error) step {
	var read step
	read = func(response []byte) ([]byte, step, error) {
		if response == nil {
			return []byte{}, read, nil
		}
		first, err := parseClientFirst(string(response))
		if err != nil {
			return nil, nil, err
		}
		k, err := keys(first.username)
		if err != nil {
			return nil, nil, err
		}
		nonce := first.nonce + rand.Text()
		challenge := fmt.Sprintf("r=%s,s=%s,i=%d", nonce, base64.StdEncoding.EncodeToString(k.Salt), k.Iterations)
		return []byte(challenge), scramFinal(first, nonce, challenge, login), nil
	}
	return read
}

// scramFinal hands the proof to login and answers with the server's signature.
func scramFinal(first clientFirst, nonce, challenge string, login func(*mail.Credentials) error) step {
	return func(response []byte) ([]byte, step, error) {
		final, err := parseClientFinal(string(response))
		if err != nil {
			return nil, nil, err
		}
		if string(final.header) != first.header {
			return nil, nil, malformed("the channel binding of a SCRAM exchange changed")
		}
		if final.nonce != nonce {
			return nil, nil, malformed("the nonce of a SCRAM exchange changed")
		}
		p := &proof{proof: final.proof, message: []byte(first.bare + "," + challenge + "," + final.withoutProof)}
		if err := login(&mail.Credentials{Mechanism: ScramSHA256, Username: first.username, Proof: p}); err != nil {
			return nil, nil, err
		}
		if p.signature == nil {
			return nil, nil, fmt.Errorf("log in by %s: %w", ScramSHA256, ErrUnproved)
		}
		return []byte("v=" + base64.StdEncoding.EncodeToString(p.signature)), scramEnd, nil
	}
}

// scramEnd takes the empty response with which a client acknowledges the
// server's signature.
func scramEnd(response []byte) ([]byte, step, error) {
	if len(response) != 0 {
		return nil, nil, malformed("response to the signature of a SCRAM exchange")
	}
	return nil, nil, nil
}

// proof is a client's SCRAM-SHA-256 proof. It implements mail.Proof.
type proof struct {
	proof [sha256.Size]byte
	// message is AuthMessage: all messages so far, without the proof.
	message []byte
	// signature is ServerSignature, nil as long as the proof is not known to be
	// right.
	signature []byte
}

// Verify implements mail.Proof by the formulas of RFC 5802 section 3.
func (p *proof) Verify(storedKey, serverKey []byte) bool {
	p.signature = nil
	clientKey := mac(storedKey, p.message)
	subtle.XORBytes(clientKey, clientKey, p.proof[:])
	hashed := sha256.Sum256(clientKey)
	if subtle.ConstantTimeCompare(hashed[:], storedKey) != 1 {
		return false
	}
	p.signature = mac(serverKey, p.message)
	return true
}

func mac(key, message []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(message)
	return h.Sum(nil)
}

// parseClientFirst reads gs2-header, user name and nonce. Extensions behind the
// nonce are optional by their grammar and ignored.
func parseClientFirst(s string) (clientFirst, error) {
	flag, rest, _ := strings.Cut(s, ",")
	identity, bare, ok := strings.Cut(rest, ",")
	if !ok || !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
		return clientFirst{}, malformed("no header in the first message of a SCRAM exchange")
	}
	if err := checkBinding(flag); err != nil {
		return clientFirst{}, err
	}
	user, rest, ok := strings.Cut(bare, ",")
	nonce, _, _ := strings.Cut(rest, ",")
	nonce, hasNonce := strings.CutPrefix(nonce, "r=")
	name, hasName := strings.CutPrefix(user, "n=")
	if !ok || !hasName || !hasNonce || !isNonce(nonce) {
		return clientFirst{}, malformed("no user name or no nonce in the first message of a SCRAM exchange")
	}
	username, ok := decodeName(name)
	if !ok || username == "" {
		return clientFirst{}, malformed("user name of a SCRAM exchange is empty or wrongly encoded")
	}
	if err := readIdentity(identity, username); err != nil {
		return clientFirst{}, err
	}
	header := s[:len(s)-len(bare)]
	return clientFirst{header: header, username: username, nonce: nonce, bare: bare}, nil
}

// readIdentity reads the authorization identity of gs2-header, which is optional.
func readIdentity(field, username string) error {
	if field == "" {
		return nil
	}
	encoded, named := strings.CutPrefix(field, "a=")
	authzid, ok := decodeName(encoded)
	if !named || !ok || authzid == "" {
		return malformed("authorization identity of a SCRAM exchange is empty or wrongly encoded")
	}
	return checkIdentity(authzid, username)
}

// checkBinding reads gs2-cbind-flag. A client that says y could bind and has
// seen that this server cannot (RFC 5802 section 6).
func checkBinding(flag string) error {
	switch {
	case flag == "n", flag == "y":
		return nil
	case strings.HasPrefix(flag, "p="):
		return refuse(mail.NewReply(501, 5, 4, "Channel binding is not supported, log in without it"), ErrChannelBinding, "read SCRAM header")
	default:
		return malformed("no channel binding flag in a SCRAM exchange")
	}
}

// parseClientFinal reads channel binding, nonce and proof. Extensions stand
// between the nonce and the proof, which is last.
func parseClientFinal(s string) (clientFinal, error) {
	at := strings.LastIndex(s, ",p=")
	if at < 0 {
		return clientFinal{}, malformed("no proof in the last message of a SCRAM exchange")
	}
	final := clientFinal{withoutProof: s[:at]}
	binding, rest, _ := strings.Cut(final.withoutProof, ",")
	nonce, _, _ := strings.Cut(rest, ",")
	binding, hasBinding := strings.CutPrefix(binding, "c=")
	nonce, hasNonce := strings.CutPrefix(nonce, "r=")
	header, err := decodeBase64(binding)
	if !hasBinding || !hasNonce || err != nil {
		return clientFinal{}, malformed("no channel binding or no nonce in the last message of a SCRAM exchange")
	}
	proof, err := decodeBase64(s[at+len(",p="):])
	if err != nil || len(proof) != len(final.proof) {
		return clientFinal{}, malformed("the proof of a SCRAM exchange has %d bytes, %d are right", len(proof), len(final.proof))
	}
	final.header, final.nonce = header, nonce
	copy(final.proof[:], proof)
	return final, nil
}

// decodeBase64 reads base64 as RFC 5802 section 7 has it: padded, in one line.
func decodeBase64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, base64.CorruptInputError(strings.IndexAny(s, "\r\n"))
	}
	return base64.StdEncoding.Strict().DecodeString(s)
}

// isNonce tells whether s is printable US-ASCII without a comma, at least one
// character.
func isNonce(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || s[i] == ',' {
			return false
		}
	}
	return s != ""
}

// decodeName undoes saslname: "=2C" is a comma and "=3D" an equals sign; any
// other "=" is a mistake (RFC 5802 section 5.1).
func decodeName(s string) (string, bool) {
	var b strings.Builder
	for {
		plain, rest, found := strings.Cut(s, "=")
		b.WriteString(plain)
		switch {
		case !found:
			return b.String(), true
		case strings.HasPrefix(rest, "2C"):
			b.WriteByte(',')
		case strings.HasPrefix(rest, "3D"):
			b.WriteByte('=')
		default:
			return "", false
		}
		s = rest[2:]
	}
}
