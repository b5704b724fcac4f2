package access

import (
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// checkStream refuses requests of HTTP/2 that two programs in a row could read in two ways (RFC
// 9113, section 8.1.1 and 8.3.1). net/http has refused those that no program may take.
func checkStream(r *http.Request) *Refusal {
	if r.ProtoMajor != 2 {
		return nil
	}
	hosts := r.Header["Host"]
	delete(r.Header, "Host")
	switch {
	case r.Host == "" || len(hosts) > 1 || len(hosts) == 1 && !strings.EqualFold(hosts[0], r.Host):
		return badRequest("the request has not one host, in :authority or in Host")
	case !httpguts.ValidHostHeader(r.Host):
		return badRequest("the host is not valid")
	case !strings.HasPrefix(r.RequestURI, "/"):
		return badRequest("the path does not begin with a slash")
	case !plainLength(r):
		return badRequest("the request's length is not that of its body")
	case r.Header["Expect"] != nil: // net/http has taken 100-continue
		return &Refusal{
			Status:  http.StatusExpectationFailed,
			Reason:  ReasonBadRequest,
			Detail:  "Expect",
			Message: "The only expectation that the gateway meets is 100-continue.",
		}
	}
	return nil
}

// plainLength reports whether the request has at most one length, and that of its body.
func plainLength(r *http.Request) bool {
	lengths := r.Header["Content-Length"]
	switch len(lengths) {
	case 0:
		return true
	case 1:
		n, err := strconv.ParseUint(lengths[0], 10, 63)
		return err == nil && int64(n) == r.ContentLength
	}
	return false
}
