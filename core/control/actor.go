package control

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/user"
	"strconv"
)

// Actor is who makes a change, for the audit trail.
type Actor struct {
	// Name is who it is: user NAME (uid N) of this machine, token "NAME", or
	// certificate NAME.
	Name string
	// Via is ViaCommand or ViaAPI.
	Via string
	// Address is the client's IP address, "" on this machine.
	Address string
}

// The ways in which a change comes.
const (
	ViaCommand = "command"
	ViaAPI     = "api"
)

// String gives all of it in one line.
func (a Actor) String() string {
	text := a.Name + " by " + a.Via
	if a.Address != "" {
		text += " from " + a.Address
	}
	return text
}

type actorKey struct{}

// WithActor gives a context in which operations are done for an actor.
func WithActor(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a)
}

// actorOf gives who acts: the one of the context, else the user of this process.
func actorOf(ctx context.Context) Actor {
	if a, ok := ctx.Value(actorKey{}).(Actor); ok {
		return a
	}
	return Actor{Name: userName(os.Getuid()), Via: ViaCommand}
}

// userName names a user of this machine.
func userName(uid int) string {
	found, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return fmt.Sprintf("uid %d", uid)
	}
	return fmt.Sprintf("user %s (uid %d)", found.Username, uid)
}

type peerKey struct{}

// WithPeer is for http.Server.ConnContext: it keeps who is at the other end of a
// Unix socket, where the system tells.
func WithPeer(ctx context.Context, conn net.Conn) context.Context {
	for {
		inner, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		conn = inner.NetConn()
	}
	c, ok := conn.(*net.UnixConn)
	if !ok {
		return ctx
	}
	uid, err := peerUID(c)
	if err != nil {
		return ctx // the actor is unknown then
	}
	return context.WithValue(ctx, peerKey{}, uid)
}

// Peer names the user at the other end of the Unix socket by which a request
// came, see WithPeer.
func Peer(ctx context.Context) string {
	if uid, ok := ctx.Value(peerKey{}).(int); ok {
		return userName(uid)
	}
	return "unknown user of this machine"
}
