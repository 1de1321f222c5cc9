package bulk

import (
	"regexp"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var (
	errContradiction  = status.Error(codes.Internal, "the server's verdict on a stream contradicts itself")
	errTakesFewer     = status.Error(codes.Unavailable, "another server answers now, which takes fewer requests in a message")
	errNothingSettled = status.Error(codes.Unavailable, "the stream ended before anything was settled")
)

// tooLarge is how gRPC's implementations say that a message is.
var tooLarge = regexp.MustCompile(`(?i)larger than (max|configured)|message exceeds|message (length )?too large`)

// plan is how to go on after a stream failed.
type plan struct {
	hopeless   bool          // repeating does not help
	poison     bool          // something in it is refused: find out which request
	halve      bool          // send half as much at a time
	retryAfter time.Duration // what the server asked for
}

// planAfter takes for a refusal what Reflexio or gRPC itself will say each
// time; all else passes, and first of all what there was too much of at once.
func planAfter(err error) plan {
	s := status.Convert(err)
	var p plan
	told, reason := false, ""
	for _, detail := range s.Details() {
		switch detail := detail.(type) {
		case *errdetails.RetryInfo:
			p.retryAfter, told = detail.GetRetryDelay().AsDuration(), true
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == "reflexio" {
				reason = detail.GetReason()
			}
		}
	}
	switch s.Code() {
	case codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented:
		p.hopeless = true
	case codes.Unavailable, codes.Aborted, codes.Canceled:
	case codes.ResourceExhausted:
		p.poison = !told && (isRefusal(reason) || reason == "" && tooLarge.MatchString(s.Message()))
	default:
		p.poison = isRefusal(reason)
		p.halve = true
	}
	p.halve = p.halve || p.poison
	return p
}

// isRefusal tells the reasons that stay the same however often the same is sent.
func isRefusal(reason string) bool {
	switch reason {
	case "INVALID_FIELD", "LIMIT_EXCEEDED", "MALFORMED_MESSAGE", "NOT_FOUND", "REQUEST_ID_REUSED", "REQUEST_ERASED":
		return true
	}
	return false
}

func isTransient(reason string) bool {
	switch reason {
	case "TOO_BUSY", "DRAINING", "DISK_FULL", "STORAGE_UNAVAILABLE":
		return true
	}
	return false
}

func codeName(err error) string { return code.Code(status.Code(err)).String() }
