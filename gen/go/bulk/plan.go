package bulk

import (
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var (
	errContradiction  = status.Error(codes.Internal, "the server's verdict on a stream contradicts itself")
	errNothingSettled = status.Error(codes.Unavailable, "the stream ended before anything was settled")
)

// plan is how to go on after a stream failed.
type plan struct {
	hopeless   bool          // repeating does not help
	poison     bool          // something in it is refused: find out which request
	halve      bool          // send half as much at a time
	retryAfter time.Duration // what the server asked for
}

func planAfter(err error) plan {
	s := status.Convert(err)
	var p plan
	told := false
	for _, detail := range s.Details() {
		if retry, ok := detail.(*errdetails.RetryInfo); ok {
			p.retryAfter, told = retry.GetRetryDelay().AsDuration(), true
		}
	}
	switch s.Code() {
	case codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented:
		p.hopeless = true
	case codes.Unavailable, codes.Aborted, codes.Canceled:
	case codes.DeadlineExceeded, codes.Unknown, codes.Internal:
		p.halve = true
	default:
		// RESOURCE_EXHAUSTED without RetryInfo is a message that is too large.
		p.poison = !told
		p.halve = p.poison
	}
	return p
}

func isTransient(reason string) bool {
	return reason == "TOO_BUSY" || reason == "DRAINING" || reason == "DISK_FULL"
}

func codeName(err error) string { return code.Code(status.Code(err)).String() }
