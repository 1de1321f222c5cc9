package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "github.com/reflexio/reflexio/gen/go/reflexio/v1"
)

func (s *scenario) streaming(ctx context.Context, raw json.RawMessage) (any, error) {
	var given struct {
		Count  int
		UserID string `json:"user_id"`
		Bad    []struct {
			Index   int
			Request json.RawMessage
		}
		Duplicates [][2]int
	}
	if err := json.Unmarshal(raw, &given); err != nil {
		return nil, err
	}
	requests := make([]*pb.PublishInteractionsRequest, given.Count)
	for i := range requests {
		requests[i] = &pb.PublishInteractionsRequest{
			UserId:       given.UserID,
			RequestId:    fmt.Sprintf("stream_%d", i),
			Interactions: []*pb.InteractionData{{UserAction: pb.UserAction_USER_ACTION_CLICK}},
		}
	}
	for _, pair := range given.Duplicates {
		requests[pair[0]] = requests[pair[1]]
	}
	for _, bad := range given.Bad {
		request, err := message(bad.Request, &pb.PublishInteractionsRequest{})
		if err != nil {
			return nil, err
		}
		requests[bad.Index] = request
	}
	reports := report{}
	for _, name := range []string{"first", "again"} {
		verdict, err := s.stream(ctx, slices.Values(requests))
		if err != nil {
			return nil, err
		}
		if reports[name], err = asJSON(verdict); err != nil {
			return nil, err
		}
	}
	return reports, nil
}

func (s *scenario) malformedInStream(ctx context.Context, raw json.RawMessage) (any, error) {
	var given struct {
		Malformed []byte
		Request   json.RawMessage
	}
	if err := json.Unmarshal(raw, &given); err != nil {
		return nil, err
	}
	request, err := message(given.Request, &pb.PublishInteractionsRequest{})
	if err != nil {
		return nil, err
	}
	good, err := proto.Marshal(request)
	if err != nil {
		return nil, err
	}
	method := pb.InteractionService_PublishInteractionStream_FullMethodName
	raws, err := s.conn.NewStream(withKey(ctx, s.key), &pb.InteractionService_ServiceDesc.Streams[0], method)
	if err != nil {
		return nil, err
	}
	// An Image's first field is bytes where the RPC's message has the request.
	stream := grpc.GenericClientStream[pb.Image, pb.PublishInteractionStreamResponse]{ClientStream: raws}
	for _, bytes := range [][]byte{given.Malformed, good} {
		if err := stream.Send(&pb.Image{Sha256: bytes}); err != nil {
			return nil, err
		}
	}
	verdict, err := stream.CloseAndRecv()
	if err != nil {
		return nil, err
	}
	return asJSON(verdict)
}

// heldOpen is a stream that has sent these requests and stays open.
func (c *client) heldOpen(ctx context.Context, userID string, requestIDs ...string) (grpc.ClientStreamingClient[pb.PublishInteractionStreamRequest, pb.PublishInteractionStreamResponse], error) {
	stream, err := c.interactions.PublishInteractionStream(withKey(ctx, c.key))
	if err != nil {
		return nil, err
	}
	for _, id := range requestIDs {
		if err := stream.Send(&pb.PublishInteractionStreamRequest{Request: say(userID, id)}); err != nil {
			return nil, err
		}
	}
	return stream, nil
}

type held struct {
	Seconds    float64
	UserID     string   `json:"user_id"`
	RequestIDs []string `json:"request_ids"`
	Rest       []string
}

func (s *scenario) deadline(ctx context.Context, raw json.RawMessage) (any, error) {
	var given held
	if err := json.Unmarshal(raw, &given); err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, time.Duration(given.Seconds*float64(time.Second)))
	defer cancel()
	stream, err := s.heldOpen(limited, given.UserID, given.RequestIDs...)
	if err != nil {
		return nil, err
	}
	// RecvMsg waits for the verdict without closing the stream.
	failed := stream.RecvMsg(&pb.PublishInteractionStreamResponse{})
	stored, err := s.waitFor(ctx, given.UserID, len(given.RequestIDs))
	return report{"code": failureOf(failed).Code, "stored": stored}, err
}

func (s *scenario) cancellation(ctx context.Context, raw json.RawMessage) (any, error) {
	var given held
	if err := json.Unmarshal(raw, &given); err != nil {
		return nil, err
	}
	cancellable, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.heldOpen(cancellable, given.UserID, given.RequestIDs...)
	if err != nil {
		return nil, err
	}
	if _, err := s.waitFor(ctx, given.UserID, len(given.RequestIDs)); err != nil {
		return nil, err
	}
	cancel()
	_, failed := stream.CloseAndRecv()
	verdict, err := s.stream(ctx, func(yield func(*pb.PublishInteractionsRequest) bool) {
		for _, id := range slices.Concat(given.RequestIDs, given.Rest) {
			if !yield(say(given.UserID, id)) {
				return
			}
		}
	})
	if err != nil {
		return nil, err
	}
	again, err := asJSON(verdict)
	return report{"cancelled": status.Code(failed) == codes.Canceled, "again": again}, err
}
