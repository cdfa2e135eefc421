// Package dkim holds the handlers dkim_verify, which finds out whose signatures a
// message has and whether they are good, and dkim_sign, which signs what users
// send (RFC 6376, 8301, 8463); and arc_verify and arc_seal, which do the like for the
// seals that servers put on what they forward (RFC 8617). domain.dkim and service.dkim
// hold the keys of domains, in files of the operator's or made and rotated by the
// server.
//
// Messages are read once and hashed as they are read, however large they are and
// however many signatures they have. Lines may end in LF alone; nothing else is
// repaired. Both algorithms, rsa-sha256 and ed25519-sha256, and all
// canonicalizations are verified; rsa-sha1 and RSA keys under 1024 bits are not
// believed. Domains of RFC 8616 are compared, looked up and reported in A-labels.
//
// What it does not do: copies of fields in z= and notes in n= are not looked at,
// and who a signer is to the author of the message is DMARC's business.
package dkim

import "github.com/mox-like/mox-like/core"

func init() {
	core.Register(new(Verify))
	core.Register(new(Sign))
	core.Register(new(Keys))
	core.Register(new(Service))
}
