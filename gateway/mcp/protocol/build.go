package protocol

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// Texts that every message begins with.
const (
	openID     = `{"jsonrpc":"2.0","id":`
	openMethod = `{"jsonrpc":"2.0","method":`
)

// Request builds a request. id and params are JSON; without params there are none.
func Request(id []byte, method string, params []byte) []byte {
	b := make([]byte, 0, len(openID)+len(id)+len(`,"method":""`)+len(method)+len(`,"params":}`)+len(params))
	b = append(append(b, openID...), id...)
	b = AppendString(append(b, `,"method":`...), method)
	return closeParams(b, params)
}

// Notification builds a notification. params are JSON; without any there are none.
func Notification(method string, params []byte) []byte {
	b := make([]byte, 0, len(openMethod)+len(`""`)+len(method)+len(`,"params":}`)+len(params))
	return closeParams(AppendString(append(b, openMethod...), method), params)
}

func closeParams(b, params []byte) []byte {
	if len(params) > 0 {
		b = append(append(b, `,"params":`...), params...)
	}
	return append(b, '}')
}

// Cancelled builds the notification that cancels the request of that id.
func Cancelled(id []byte) []byte {
	return Notification(MethodCancelled, Object(Member("requestId", id)))
}

// Result builds the response to the request of that id. Both are JSON.
func Result(id, result []byte) []byte {
	b := make([]byte, 0, len(openID)+len(id)+len(`,"result":}`)+len(result))
	return EndResult(append(BeginResult(b, id), result...))
}

// EmptyResult builds the response that says nothing but that all is well.
func EmptyResult(id []byte) []byte { return Result(id, []byte("{}")) }

// BeginResult appends the response to the request of that id to dst, up to its
// result. Append the result, and then [EndResult].
func BeginResult(dst, id []byte) []byte {
	return append(append(append(dst, openID...), id...), `,"result":`...)
}

// EndResult ends what [BeginResult] has begun.
func EndResult(dst []byte) []byte { return append(dst, '}') }

// Error builds the error response to the request of that id; null without one.
// data are the members of error.data, as [Member] builds them.
func Error(id []byte, code int, message string, data ...[]byte) []byte {
	return AppendError(make([]byte, 0, 256), id, code, message, data...)
}

// AppendError appends what [Error] builds to dst.
func AppendError(dst, id []byte, code int, message string, data ...[]byte) []byte {
	dst = append(dst, openID...)
	if len(id) == 0 {
		dst = append(dst, "null"...)
	}
	dst = append(append(dst, id...), `,"error":{"code":`...)
	dst = strconv.AppendInt(dst, int64(code), 10)
	dst = AppendString(append(dst, `,"message":`...), message)
	if len(data) > 0 {
		dst = AppendObject(append(dst, `,"data":`...), data...)
	}
	return append(dst, "}}"...)
}

// RequestID is the member of error.data by which a client finds the gateway's audit
// line about its request.
func RequestID(id string) []byte { return StringMember("request_id", id) }

// Object builds an object of members. Empty ones are passed over.
func Object(members ...[]byte) []byte {
	size := len("{}")
	for _, m := range members {
		size += len(m) + len(",")
	}
	return AppendObject(make([]byte, 0, size), members...)
}

// AppendObject appends what [Object] builds to dst.
func AppendObject(dst []byte, members ...[]byte) []byte {
	dst = append(dst, '{')
	begun := false
	for _, m := range members {
		if len(m) == 0 {
			continue
		}
		if begun {
			dst = append(dst, ',')
		}
		dst, begun = append(dst, m...), true
	}
	return append(dst, '}')
}

// Member builds a member of an object. value is JSON.
func Member(key string, value []byte) []byte {
	b := make([]byte, 0, len(`"":`)+len(key)+len(value))
	return append(append(AppendString(b, key), ':'), value...)
}

// StringMember builds a member whose value is a string.
func StringMember(key, value string) []byte {
	b := make([]byte, 0, len(`"":""`)+len(key)+len(value))
	return AppendString(append(AppendString(b, key), ':'), value)
}

// Strings builds an array of strings.
func Strings(list []string) []byte {
	b := []byte{'['}
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = AppendString(b, s)
	}
	return append(b, ']')
}

// AppendString appends s as a JSON string. Nearly all strings here are plain, and
// are copied as they are.
func AppendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return appendQuoted(b, s)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// appendQuoted is AppendString for the others. Bytes that are not UTF-8 are
// replaced. "<" and ">" stay as they are: this is never within HTML.
func appendQuoted(b []byte, s string) []byte {
	var quoted bytes.Buffer
	encoder := json.NewEncoder(&quoted)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(s); err != nil { // strings always have a JSON form
		return append(b, `""`...)
	}
	return append(b, bytes.TrimSuffix(quoted.Bytes(), []byte("\n"))...)
}
