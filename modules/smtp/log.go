package smtp

// The keys of this module's log. They are part of its interface: changing one
// breaks what reads the log.
const (
	keySession     = "session_id"
	keyMessage     = "msg_id"
	keyRemoteIP    = "remote_ip"
	keyListener    = "listener"
	keyHelo        = "helo"
	keyReversePath = "reverse_path"
	keyRecipient   = "recipient"
	keyUser        = "user"
	keySize        = "size"
	keyReplyCode   = "reply_code"
	keyReply       = "reply"
	keyHandler     = "handler"
	keyVerdict     = "verdict"
	keyReason      = "reason"
	keyCommand     = "command"
	keyDuration    = "duration"
	keyError       = "error"
)
