// Package config is the configuration language: it reads HCL files with their
// includes and variables, decodes blocks into tagged structs, compiles the
// expressions that are evaluated for each message, and tells mistakes as
// diagnostics with the exact place.
//
// # Struct tags
//
// A struct that a block is decoded into names each setting in a config tag:
//
//	Key   []string       `config:"key,required" values:"ip,user"`
//	Limit config.Rate    `config:"limit" default:"100/1h"`
//	Burst int            `config:"burst" min:"0" max:"100000"`
//	TLS   *TLS           `config:"tls,block"`
//	Rules []Rule         `config:"rule,block"`
//	Name  string         `config:"name,label"`
//	Chain *config.Block  `config:"chain,body"`
//	Rest  []*config.Block `config:",remain"`
//
// A setting is an attribute unless the tag says block (a nested block, a struct,
// a pointer to one, or a slice of either), body (a nested block that is kept
// undecoded), label (a label of the block, in the order of the struct) or remain
// (all blocks that no other field takes). Further words are required, fileonly (for
// what a domain's settings in the database must not change) and, for labels,
// optional. Fields without a tag are not settings; an embedded struct
// without a tag lends its fields. The tags default, min, max and values are read
// by the rules of the field's own type; a list's default is separated by commas.
// So is the tag example, which diagnostics show where the type says too little.
// A wrong tag is a mistake of the program and panics.
//
// # Types
//
// string, bool, integers, float64, time.Duration ("15m", "30d"), Size ("25MB"),
// Rate ("100/1h"), netip.Addr, netip.AddrPort, netip.Prefix ("192.0.2.0/24"),
// mail.Address, any encoding.TextUnmarshaler, slices and maps from string of
// these, pointers to these (nil where the file says nothing), and Expr, which is
// not evaluated. One value stands for a list of one. A null counts as not written.
//
// An address stands for the network of itself alone: "192.0.2.1" is 192.0.2.1/32,
// "2001:db8::1" is 2001:db8::1/128. "192.0.2.5/24" is an error, since either the
// network or the address could be meant.
//
// # Expressions
//
// Expressions are HCL's. They know var.name, the variables, and the functions
// env(name, default?), file(name), trimspace, lower, upper, join, split, concat,
// contains(list, value), cidr_contains(network, address), matches(text, pattern)
// with RE2's syntax, domain_of(address) and jsondecode. A network is written as
// in settings. file reads relative to the file that calls it. Only a when knows
// tx, see When.
//
// # Secrets
//
// The value of a variable marked sensitive is marked through every expression,
// and so is what env and file give, since secrets come from there. No diagnostic
// quotes a marked value, and in the texts that Print shows the default of a
// sensitive variable is made into stars. Go structs get the plain value.
//
// # Limits
//
// A configuration file has at most 4 MiB, a file that file reads 1 MiB. Brackets
// nest 200 deep at most. The package writes no files: File.Edited gives texts. It
// knows no module: which blocks there are is said by the structs.
package config
