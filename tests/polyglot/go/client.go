package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pb "github.com/reflexio/reflexio/gen/go/reflexio/v1"
)

// client is a connection and the key that goes with each call.
type client struct {
	conn         *grpc.ClientConn
	auth         pb.AuthServiceClient
	interactions pb.InteractionServiceClient
	key          string
}

func dial(address string) (*client, error) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	return &client{conn: conn, auth: pb.NewAuthServiceClient(conn), interactions: pb.NewInteractionServiceClient(conn)}, nil
}

func withKey(ctx context.Context, key string) context.Context {
	if key == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
}

func (c *client) logIn(ctx context.Context, email, password string) (*pb.LoginResponse, error) {
	login, err := c.auth.Login(ctx, &pb.LoginRequest{Email: email, Password: password})
	c.key = login.GetApiKey()
	return login, err
}

func (c *client) publish(ctx context.Context, request *pb.PublishInteractionsRequest) (*pb.PublishInteractionsResponse, error) {
	return c.interactions.PublishInteractions(withKey(ctx, c.key), request)
}

func (c *client) stream(ctx context.Context, requests iter.Seq[*pb.PublishInteractionsRequest]) (*pb.PublishInteractionStreamResponse, error) {
	stream, err := c.interactions.PublishInteractionStream(withKey(ctx, c.key))
	if err != nil {
		return nil, err
	}
	for request := range requests {
		if err := stream.Send(&pb.PublishInteractionStreamRequest{Request: request}); errors.Is(err, io.EOF) {
			break // the server has answered already
		} else if err != nil {
			return nil, err
		}
	}
	return stream.CloseAndRecv()
}

// pages yields one page after the other; the first error ends it.
func (c *client) pages(ctx context.Context, request *pb.GetInteractionsRequest) iter.Seq2[[]*pb.Interaction, error] {
	return func(yield func([]*pb.Interaction, error) bool) {
		request := proto.CloneOf(request)
		for {
			page, err := c.interactions.GetInteractions(withKey(ctx, c.key), request)
			if !yield(page.GetInteractions(), err) || err != nil || page.GetNextPageToken() == "" {
				return
			}
			request.PageToken = page.GetNextPageToken()
		}
	}
}

func (c *client) listed(ctx context.Context, request *pb.GetInteractionsRequest) ([]*pb.Interaction, error) {
	request.Order = pb.Order_ORDER_OLDEST_FIRST
	var found []*pb.Interaction
	for page, err := range c.pages(ctx, request) {
		if err != nil {
			return nil, err
		}
		found = append(found, page...)
	}
	return found, nil
}

// waitFor returns how many interactions of the user are stored, once there are
// so many, or after 10 seconds.
func (c *client) waitFor(ctx context.Context, userID string, count int) (int, error) {
	for range 200 {
		found, err := c.listed(ctx, &pb.GetInteractionsRequest{UserId: &userID})
		if err != nil || len(found) >= count {
			return len(found), err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return 0, errors.New("waited 10 seconds for " + userID)
}

// image reads a picture in its chunks.
func (c *client) image(ctx context.Context, interactionID string) ([][]byte, error) {
	stream, err := c.interactions.GetImage(ctx, &pb.GetImageRequest{InteractionId: interactionID})
	if err != nil {
		return nil, err
	}
	var chunks [][]byte
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return chunks, nil
		} else if err != nil {
			return nil, err
		}
		chunks = append(chunks, part.GetData())
	}
}

// say is a request with one interaction, which says its request's id.
func say(userID, requestID string) *pb.PublishInteractionsRequest {
	return &pb.PublishInteractionsRequest{
		UserId:       userID,
		RequestId:    requestID,
		Interactions: []*pb.InteractionData{{Content: requestID}},
	}
}

// message reads a message from its JSON form.
func message[M proto.Message](raw json.RawMessage, m M) (M, error) {
	return m, protojson.Unmarshal(raw, m)
}

// asJSON is a message with all its fields under their names in the contract.
func asJSON(m proto.Message) (json.RawMessage, error) {
	raw, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
	return bytes.TrimSpace(raw), err
}

type violation struct {
	Field       string `json:"field"`
	Description string `json:"description"`
}

// failure is how a call failed.
type failure struct {
	Code              string            `json:"code"`
	Message           string            `json:"message"`
	Reason            string            `json:"reason"`
	Domain            string            `json:"domain"`
	Metadata          map[string]string `json:"metadata"`
	Violations        []violation       `json:"violations"`
	RetryAfterSeconds *float64          `json:"retry_after_seconds"`
}

// failureOf decodes the details of an error into their own types.
func failureOf(err error) failure {
	s := status.Convert(err)
	f := failure{
		Code:       code.Code(s.Code()).String(),
		Message:    s.Message(),
		Metadata:   map[string]string{},
		Violations: []violation{},
	}
	for _, detail := range s.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			f.Reason, f.Domain = d.GetReason(), d.GetDomain()
			for key, value := range d.GetMetadata() {
				f.Metadata[key] = value
			}
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				f.Violations = append(f.Violations, violation{v.GetField(), v.GetDescription()})
			}
		case *errdetails.RetryInfo:
			seconds := d.GetRetryDelay().AsDuration().Seconds()
			f.RetryAfterSeconds = &seconds
		}
	}
	return f
}
