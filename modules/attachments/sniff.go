package attachments

import (
	"bytes"
	"encoding/binary"
	"net/http"
	"strings"
)

// Types that are told by the content and that http.DetectContentType does not
// know or names otherwise.
const (
	typeDOS      = "application/x-dosexec"
	typeELF      = "application/x-elf"
	typeMachO    = "application/x-mach-binary"
	typeJava     = "application/java-vm"
	typeScript   = "text/x-script"
	typeShortcut = "application/x-ms-shortcut"
	typeOLE      = "application/x-ole-storage"
	typeMacros   = "application/x-office-macros"
	typeOneNote  = "application/onenote"
	typeHelp     = "application/x-ms-help"
	typeCabinet  = "application/vnd.ms-cab-compressed"
	typeISO      = "application/x-iso9660-image"
	typeSevenZip = "application/x-7z-compressed"
	typeRTF      = "application/rtf"
	typeZip      = "application/zip"
	unknownType  = "application/octet-stream" // as http.DetectContentType has it
)

// knownTypes are all that can be told.
var knownTypes = []string{
	typeDOS, typeELF, typeMachO, typeJava, typeScript, typeShortcut, typeOLE, typeMacros, typeOneNote, typeHelp, typeCabinet,
	typeISO, typeSevenZip, typeRTF, typeZip,
	"application/x-rar-compressed", "application/x-gzip", "application/pdf", "application/postscript", "application/wasm",
	"application/ogg", unknownType, "application/vnd.ms-fontobject", "text/html", "text/xml", "text/plain",
	"image/x-icon", "image/bmp", "image/gif", "image/webp", "image/png", "image/jpeg", "audio/basic", "audio/aiff", "audio/mpeg",
	"audio/midi", "audio/wave", "video/avi", "video/mp4", "video/webm", "font/ttf", "font/otf", "font/collection", "font/woff", "font/woff2",
}

// magic is how files of a type begin.
var magic = []struct{ prefix, name string }{
	{"\x7fELF", typeELF},
	{"\xfe\xed\xfa\xce", typeMachO},
	{"\xfe\xed\xfa\xcf", typeMachO},
	{"\xce\xfa\xed\xfe", typeMachO},
	{"\xcf\xfa\xed\xfe", typeMachO},
	{"#!", typeScript},
	{"\xef\xbb\xbf#!", typeScript},
	{"\x4c\x00\x00\x00\x01\x14\x02\x00", typeShortcut},
	{"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", typeOLE},
	{"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d\xae\xb1\x53\x78\xd0\x29\x96\xd3", typeOneNote},
	{"ITSF\x03\x00\x00\x00", typeHelp},
	{"MSCF\x00\x00\x00\x00", typeCabinet},
	{"7z\xbc\xaf\x27\x1c", typeSevenZip},
	{`{\rtf`, typeRTF},
	{"PK\x03\x04", typeZip},
	{"PK\x05\x06", typeZip}, // an empty one
}

// headSize is what of a file its type is told by; isoOffset is where an image of
// a CD says that it is one (ECMA-119 section 8).
const (
	headSize  = 4 << 10
	isoOffset = 0x8001
)

// sniff tells the type of a file that begins with head.
func sniff(head []byte) string {
	for _, m := range magic {
		if len(head) >= len(m.prefix) && string(head[:len(m.prefix)]) == m.prefix {
			return m.name
		}
	}
	if isDOS(head) {
		return typeDOS
	}
	// Java's classes and Apple's programs for several processors begin alike; the
	// latter have few processors, the former a version from 45 on.
	if len(head) >= 8 && string(head[:4]) == "\xca\xfe\xba\xbe" {
		if binary.BigEndian.Uint32(head[4:]) < 45 {
			return typeMachO
		}
		return typeJava
	}
	name, _, _ := strings.Cut(http.DetectContentType(head), ";")
	return name
}

// isDOS tells programs for DOS and Windows. Text may begin with MZ, too, but has no
// control characters.
func isDOS(head []byte) bool {
	if len(head) < 2 || string(head[:2]) != "MZ" && string(head[:2]) != "ZM" {
		return false
	}
	if len(head) >= 0x40 {
		at := int(binary.LittleEndian.Uint32(head[0x3c:]))
		if at >= 0 && at+4 <= len(head) && string(head[at:at+4]) == "PE\x00\x00" {
			return true
		}
	}
	return bytes.ContainsFunc(head[:min(len(head), 64)], func(r rune) bool {
		return r < ' ' && !strings.ContainsRune("\t\n\r\f\x1b", r) || r == 0x7f
	})
}

// macroMark is a name in the directory of an OLE file that has macros ([MS-OVBA]
// section 2.2.1), in UTF-16.
var macroMark = utf16("_VBA_PROJECT")

func utf16(s string) []byte {
	b := make([]byte, 0, 2*len(s))
	for i := range len(s) {
		b = append(b, s[i], 0)
	}
	return b
}

// isMacroPart tells the entry of an Office file in a zip archive that has its
// macros ([MS-OFFMACRO2] section 2.2).
func isMacroPart(name string) bool {
	return strings.HasSuffix(name, "vbaproject.bin")
}
