package bulk_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/reflexio/reflexio/gen/go/bulk"
	pb "github.com/reflexio/reflexio/gen/go/reflexio/v1"
)

// server keeps requests as Reflexio does, and fails as each test wants.
type server struct {
	pb.UnimplementedInteractionServiceServer
	lock    sync.Mutex
	stored  []string
	streams []int // how many messages each stream carried
	// perMessage is how many requests it takes in a message; 0: one, and others
	// are empty messages to it.
	perMessage int
	// handle may end the stream after the message that it is given.
	handle func(stream, message int, request *pb.PublishInteractionsRequest) error
	// verdict may change the answer.
	verdict func(stream int, answer *pb.PublishInteractionStreamResponse)
}

func (s *server) PublishInteractionStream(in grpc.ClientStreamingServer[pb.PublishInteractionStreamRequest, pb.PublishInteractionStreamResponse]) error {
	s.lock.Lock()
	defer s.lock.Unlock()
	number := len(s.streams)
	s.streams = append(s.streams, 0)
	answer := &pb.PublishInteractionStreamResponse{Requests: &pb.PublishCounts{}, Interactions: &pb.PublishCounts{}, EndReason: pb.EndReason_END_REASON_COMPLETE}
	answer.RequestsPerMessage = uint32(s.perMessage)
	i := -1 // the number of the request
messages:
	for {
		message, err := in.Recv()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		s.streams[number]++
		requests := []*pb.PublishInteractionsRequest{message.GetRequest()}
		if s.perMessage > 0 && message.Request == nil {
			requests = message.GetRequests()
		}
		for _, request := range requests {
			i++
			s.take(i, request, answer)
			if s.handle != nil {
				if err := s.handle(number, i, request); errors.Is(err, io.EOF) {
					answer.EndReason = pb.EndReason_END_REASON_DRAINING
					break messages
				} else if err != nil {
					return err
				}
			}
		}
	}
	if s.verdict != nil {
		s.verdict(number, answer)
	}
	return in.SendAndClose(answer)
}

func (s *server) take(index int, request *pb.PublishInteractionsRequest, answer *pb.PublishInteractionStreamResponse) {
	switch {
	case request.GetUserId() == "":
		answer.Requests.Rejected++
		answer.Interactions.Rejected += uint32(len(request.GetInteractions()))
		answer.Rejections = append(answer.Rejections, &pb.PublishRejection{Index: uint32(index), RequestId: request.GetRequestId(), Reason: "INVALID_FIELD", Field: "user_id", Message: "is required"})
	case slices.Contains(s.stored, request.GetRequestId()):
		answer.Requests.Duplicate++
		answer.Interactions.Duplicate += uint32(len(request.GetInteractions()))
	default:
		s.stored = append(s.stored, request.GetRequestId())
		answer.Requests.Stored++
		answer.Interactions.Stored += uint32(len(request.GetInteractions()))
	}
}

// start serves on a port of its own.
func start(t *testing.T, s *server) pb.InteractionServiceClient {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := grpc.NewServer()
	pb.RegisterInteractionServiceServer(served, s)
	go served.Serve(listener)
	t.Cleanup(served.Stop)
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return pb.NewInteractionServiceClient(conn)
}

func request(id string) *pb.PublishInteractionsRequest {
	return &pb.PublishInteractionsRequest{UserId: "u", RequestId: id, Interactions: []*pb.InteractionData{{Content: "a"}, {Content: "b"}}}
}

func requests(count int) iter.Seq[*pb.PublishInteractionsRequest] {
	return func(yield func(*pb.PublishInteractionsRequest) bool) {
		for i := range count {
			if !yield(request(fmt.Sprint("r", i))) {
				return
			}
		}
	}
}

func publish(t *testing.T, s *server, all iter.Seq[*pb.PublishInteractionsRequest]) bulk.Result {
	t.Helper()
	result, err := bulk.Publish(t.Context(), start(t, s), all, nil)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func expect[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestSegmentsAreBoundedInRequests(t *testing.T) {
	s := &server{}
	result := publish(t, s, requests(2500))
	expect(t, "streams", s.streams, []int{1000, 1000, 500})
	expect(t, "requests", result.Requests, bulk.Counts{Stored: 2500})
	expect(t, "interactions", result.Interactions, bulk.Counts{Stored: 5000})
}

func TestMessagesArePackedOnceTheServerSaidSo(t *testing.T) {
	s := &server{perMessage: 100}
	result := publish(t, s, requests(2550))
	expect(t, "messages", s.streams, []int{1000, 10, 6})
	expect(t, "requests", result.Requests, bulk.Counts{Stored: 2550})
	for i, id := range s.stored {
		expect(t, "in its order", id, fmt.Sprint("r", i))
	}
}

func TestMessagesAreBoundedInBytes(t *testing.T) {
	s := &server{perMessage: 100}
	publish(t, s, func(yield func(*pb.PublishInteractionsRequest) bool) {
		for i := range 1005 {
			one := request(fmt.Sprint(i))
			if i >= 1000 {
				one.Interactions[0].Content = strings.Repeat("x", 30<<10)
			}
			if !yield(one) {
				return
			}
		}
	})
	expect(t, "messages", s.streams, []int{1000, 3})
}

func TestAServerThatTakesFewerInAnothersPlaceCostsNothing(t *testing.T) {
	for _, fewer := range []int{0, 50} {
		s := &server{perMessage: 100}
		s.handle = func(stream, _ int, _ *pb.PublishInteractionsRequest) error {
			if stream == 1 { // packed: what it says of it is not on what was sent
				s.perMessage = fewer
			}
			return nil
		}
		s.verdict = func(_ int, answer *pb.PublishInteractionStreamResponse) {
			answer.RequestsPerMessage = uint32(s.perMessage)
			if fewer == 50 && len(s.streams) == 2 {
				answer.Requests = &pb.PublishCounts{Rejected: 5}
				answer.Rejections = make([]*pb.PublishRejection, 5)
				for i := range answer.Rejections {
					answer.Rejections[i] = &pb.PublishRejection{Index: uint32(i), Reason: "LIMIT_EXCEEDED", Field: "requests"}
				}
			}
		}
		result := publish(t, s, requests(1500))
		expect(t, "rejected", result.Requests.Rejected, 0)
		expect(t, "settled", result.Requests.Stored+result.Requests.Duplicate, 1500)
		expect(t, "stored", len(s.stored), 1500)
	}
}

func TestSegmentsAreBoundedInBytes(t *testing.T) {
	s := &server{}
	publish(t, s, func(yield func(*pb.PublishInteractionsRequest) bool) {
		for i := range 5 {
			one := request(fmt.Sprint(i))
			one.Interactions[0].Image = make([]byte, 3<<20)
			if !yield(one) {
				return
			}
		}
	})
	expect(t, "streams", s.streams, []int{3, 2})
}

func TestNoRequestIsTakenBeforeTheSegmentBeforeIsSettled(t *testing.T) {
	s := &server{}
	taken := 0
	publish(t, s, func(yield func(*pb.PublishInteractionsRequest) bool) {
		for one := range requests(3000) {
			s.lock.Lock()
			if ahead := taken - len(s.stored); ahead >= 1000 {
				t.Errorf("%d requests in memory", ahead+1)
			}
			s.lock.Unlock()
			taken++
			if !yield(one) {
				return
			}
		}
	})
}

func TestABrokenStreamIsSentAgain(t *testing.T) {
	s := &server{handle: func(stream, message int, _ *pb.PublishInteractionsRequest) error {
		if stream < 2 && message == 600 {
			return status.Error(codes.Unavailable, "gone")
		}
		return nil
	}}
	result := publish(t, s, requests(1500))
	expect(t, "requests", result.Requests, bulk.Counts{Stored: 899, Duplicate: 601})
	expect(t, "kept", len(s.stored), 1500)
}

func TestTheServerIsWaitedForAsLongAsItSays(t *testing.T) {
	busy, err := status.New(codes.ResourceExhausted, "busy").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(300 * time.Millisecond)})
	if err != nil {
		t.Fatal(err)
	}
	s := &server{handle: func(stream, _ int, _ *pb.PublishInteractionsRequest) error {
		if stream == 0 {
			return busy.Err()
		}
		return nil
	}}
	started := time.Now()
	result := publish(t, s, requests(10))
	if spent := time.Since(started); spent < 300*time.Millisecond {
		t.Errorf("came back after %v", spent)
	}
	expect(t, "requests", result.Requests, bulk.Counts{Stored: 9, Duplicate: 1})
}

func TestRejectionsAreListedWithTheirPlaceInTheWhole(t *testing.T) {
	all := slices.Collect(requests(2100))
	all[3].UserId, all[2050].UserId = "", ""
	result := publish(t, &server{}, slices.Values(all))
	expect(t, "requests", result.Requests, bulk.Counts{Stored: 2098, Rejected: 2})
	expect(t, "interactions", result.Interactions, bulk.Counts{Stored: 4196, Rejected: 4})
	expect(t, "rejections", result.Rejections, []bulk.Rejection{
		{3, "r3", "INVALID_FIELD", "user_id", "is required"},
		{2050, "r2050", "INVALID_FIELD", "user_id", "is required"},
	})
}

func TestWhatAVerdictDoesNotListIsNotTakenForStored(t *testing.T) {
	all := slices.Collect(requests(10))
	all[2].UserId, all[7].UserId = "", ""
	s := &server{verdict: func(stream int, answer *pb.PublishInteractionStreamResponse) {
		if stream == 0 {
			answer.Rejections = answer.Rejections[:1]
		}
	}}
	result := publish(t, s, slices.Values(all))
	expect(t, "streams", s.streams, []int{10, 9})
	expect(t, "requests", result.Requests, bulk.Counts{Duplicate: 8, Rejected: 2})
}

func TestAVerdictOnAPrefixIsFollowedByTheRest(t *testing.T) {
	s := &server{handle: func(stream, message int, _ *pb.PublishInteractionsRequest) error {
		if stream == 0 && message == 399 {
			return io.EOF
		}
		return nil
	}}
	result := publish(t, s, requests(1000))
	expect(t, "streams", s.streams, []int{400, 600})
	expect(t, "requests", result.Requests, bulk.Counts{Stored: 1000})
}

func TestAVerdictThatContradictsItselfIsNotBelieved(t *testing.T) {
	s := &server{verdict: func(stream int, answer *pb.PublishInteractionStreamResponse) {
		if stream == 0 {
			answer.Requests.Stored++
		}
	}}
	result := publish(t, s, requests(4))
	expect(t, "requests", result.Requests, bulk.Counts{Duplicate: 4})
}

func TestAMessageThatBreaksEveryStreamIsFoundAndRejected(t *testing.T) {
	s := &server{handle: func(_, _ int, request *pb.PublishInteractionsRequest) error {
		if request.GetRequestId() == "r77" {
			return status.Error(codes.ResourceExhausted, "larger than max")
		}
		return nil
	}}
	var told []bulk.Rejection
	options := &bulk.Options{OnRejection: func(one bulk.Rejection) { told = append(told, one) }}
	result, err := bulk.Publish(t.Context(), start(t, s), requests(100), options)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "rejections", result.Rejections, []bulk.Rejection{{77, "r77", "RESOURCE_EXHAUSTED", "", "larger than max"}})
	expect(t, "told", told, result.Rejections)
	expect(t, "settled", result.Requests.Stored+result.Requests.Duplicate, 99)
}

func TestRequestsWithoutAnIDGetOneInACopy(t *testing.T) {
	s := &server{}
	original := request("")
	original.Source = "web_shop"
	publish(t, s, slices.Values([]*pb.PublishInteractionsRequest{original, request("")}))
	expect(t, "the caller's", original.GetRequestId(), "")
	if len(s.stored) != 2 || s.stored[0][:9] != "web-shop_" || len(s.stored[0]) != 9+36 || s.stored[1][:8] != "request_" {
		t.Errorf("request_ids: %v", s.stored)
	}
}

func TestARefusedKeyStopsAtOnceWithTheResultSoFar(t *testing.T) {
	s := &server{handle: func(stream, _ int, _ *pb.PublishInteractionsRequest) error {
		if stream == 1 {
			return status.Error(codes.Unauthenticated, "revoked")
		}
		return nil
	}}
	result, err := bulk.Publish(t.Context(), start(t, s), requests(2000), nil)
	expect(t, "code", status.Code(err), codes.Unauthenticated)
	expect(t, "requests", result.Requests, bulk.Counts{Stored: 1000})
}

func TestPatienceEnds(t *testing.T) {
	s := &server{handle: func(int, int, *pb.PublishInteractionsRequest) error { return status.Error(codes.Unavailable, "gone") }}
	_, err := bulk.Publish(t.Context(), start(t, s), requests(1), &bulk.Options{Patience: 500 * time.Millisecond})
	expect(t, "code", status.Code(err), codes.Unavailable)
	if len(s.streams) < 2 {
		t.Error("it was not tried again")
	}
}

func TestCancellingStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := &server{handle: func(int, int, *pb.PublishInteractionsRequest) error {
		cancel()
		return status.Error(codes.Unavailable, "gone")
	}}
	_, err := bulk.Publish(ctx, start(t, s), requests(1), nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
