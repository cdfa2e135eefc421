// Package logkey holds the keys under which the log has its values. They are
// part of the server's interface: who changes one breaks what reads the log.
package logkey

// The keys, in the order in which a line mostly has them.
const (
	Message     = "msg_id"       // of a message or a login, as in the trace
	Session     = "session_id"   // of a connection
	Listener    = "listener"     // the name of its block
	Domain      = "domain"       // that lives here
	Address     = "address"      // of a socket
	RemoteIP    = "remote_ip"    // of the client
	Helo        = "helo"         // the name that it gave
	User        = "user"         // who logs in or has
	Mechanism   = "mechanism"    // by which SASL mechanism
	ReversePath = "reverse_path" // "" for the null reverse-path
	Recipient   = "recipient"    // one, or a list
	Size        = "size"         // in bytes
	Command     = "command"      // of the protocol
	Stage       = "stage"        // of the chain
	Handler     = "handler"      // the one that decided, "" if none did
	Verdict     = "verdict"      // what was decided
	OnError     = "on_error"     // what a handler's error means
	OnTimeout   = "on_timeout"   // what it means that it gave no answer in time
	ReplyCode   = "reply_code"   // what the client was told
	Reply       = "reply"        // the same with its text
	Reason      = "reason"       // why, for the operator
	Duration    = "duration"     // in seconds
	Error       = "error"        // as zap.Error has it
	Stack       = "stack"        // of a panic
)
