package protocol

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// The beginning of every message.
const (
	openID     = `{"jsonrpc":"2.0","id":`
	openMethod = `{"jsonrpc":"2.0","method":`
)

// Request builds a request. id and params are JSON; empty params are left out.
func Request(id []byte, method string, params []byte) []byte {
	b := make([]byte, 0, len(openID)+len(id)+len(`,"method":""`)+len(method)+len(`,"params":}`)+len(params))
	b = append(append(b, openID...), id...)
	b = AppendString(append(b, `,"method":`...), method)
	return closeParams(b, params)
}

// Notification builds a notification. params are JSON; empty ones are left out.
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

// EmptyResult builds the response with an empty result.
func EmptyResult(id []byte) []byte { return Result(id, []byte("{}")) }

// BeginResult appends the response to the request of that id to dst, up to its
// result. Append the result, and then [EndResult].
func BeginResult(dst, id []byte) []byte {
	return append(append(append(dst, openID...), id...), `,"result":`...)
}

// EndResult ends a response after [BeginResult].
func EndResult(dst []byte) []byte { return append(dst, '}') }

// Error builds the error response to the request of that id; an empty id is null.
// data are the members of error.data, as [Member] builds them.
func Error(id []byte, code int, message string, data ...[]byte) []byte {
	return AppendError(make([]byte, 0, 256), id, code, message, data...)
}

// AppendError is [Error], appended to dst.
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

// RequestID is the member of error.data that names the gateway's audit line about the
// request.
func RequestID(id string) []byte { return StringMember("request_id", id) }

// Object builds an object of members. It skips empty ones.
func Object(members ...[]byte) []byte {
	size := len("{}")
	for _, m := range members {
		size += len(m) + len(",")
	}
	return AppendObject(make([]byte, 0, size), members...)
}

// AppendObject is [Object], appended to dst.
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

// AppendString appends s as a JSON string. Nearly all strings here are plain, and it
// copies them as they are.
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

// appendQuoted is AppendString for the other strings. It replaces bytes that are not
// UTF-8. It keeps "<" and ">", since this is never within HTML.
func appendQuoted(b []byte, s string) []byte {
	var quoted bytes.Buffer
	encoder := json.NewEncoder(&quoted)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(s); err != nil { // strings always have a JSON form
		return append(b, `""`...)
	}
	return append(b, bytes.TrimSuffix(quoted.Bytes(), []byte("\n"))...)
}
