package imap

// The keys of this module's log. They are part of its interface: changing one
// breaks what reads the log.
const (
	keySession   = "session_id"
	keyMessage   = "msg_id"
	keyRemoteIP  = "remote_ip"
	keyListener  = "listener"
	keyUser      = "user"
	keyMechanism = "mechanism"
	keyHandler   = "handler"
	keyVerdict   = "verdict"
	keyReason    = "reason"
	keyCommand   = "command"
	keyDuration  = "duration"
	keyStack     = "stack"
	keyError     = "error"
)
