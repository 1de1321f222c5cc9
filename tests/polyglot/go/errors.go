package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sync"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pb "github.com/reflexio/reflexio/gen/go/reflexio/v1"
)

type row struct {
	Name    string
	RPC     string
	Key     *string
	SentAs  string `json:"sent_as"`
	Request json.RawMessage
}

func (s *scenario) errors(ctx context.Context, raw json.RawMessage) (any, error) {
	var rows []row
	if err := json.Unmarshal(raw, &rows); err != nil {
		return nil, err
	}
	reports := report{}
	for _, row := range rows {
		err := s.refused(ctx, row)
		if err == nil {
			return nil, fmt.Errorf("%s: the call succeeded", row.Name)
		}
		reports[row.Name] = failureOf(err)
	}
	return reports, nil
}

// refused makes a call that must fail.
func (s *scenario) refused(ctx context.Context, row row) error {
	key := s.key
	if row.Key != nil {
		key = *row.Key
	}
	ctx = withKey(ctx, key)
	if row.SentAs == "Image" { // bytes where the RPC has text, to send what is not UTF-8
		request, err := message(row.Request, &pb.Image{})
		if err != nil {
			return err
		}
		return s.conn.Invoke(ctx, "/reflexio.v1.AuthService/"+row.RPC, request, &pb.RevokeApiKeyResponse{})
	}
	switch row.RPC {
	case "Login":
		return invoke(ctx, row, &pb.LoginRequest{}, s.auth.Login)
	case "WhoAmI":
		return invoke(ctx, row, &pb.WhoAmIRequest{}, s.auth.WhoAmI)
	case "ListApiKeys":
		return invoke(ctx, row, &pb.ListApiKeysRequest{}, s.auth.ListApiKeys)
	case "RevokeApiKey":
		return invoke(ctx, row, &pb.RevokeApiKeyRequest{}, s.auth.RevokeApiKey)
	case "PublishInteractions":
		return invoke(ctx, row, &pb.PublishInteractionsRequest{}, s.interactions.PublishInteractions)
	case "SearchInteractions":
		return invoke(ctx, row, &pb.SearchInteractionsRequest{}, s.interactions.SearchInteractions)
	case "GetInteractions":
		return invoke(ctx, row, &pb.GetInteractionsRequest{}, s.interactions.GetInteractions)
	case "GetRequests":
		return invoke(ctx, row, &pb.GetRequestsRequest{}, s.interactions.GetRequests)
	case "DeleteInteraction":
		return invoke(ctx, row, &pb.DeleteInteractionRequest{}, s.interactions.DeleteInteraction)
	case "DeleteRequest":
		return invoke(ctx, row, &pb.DeleteRequestRequest{}, s.interactions.DeleteRequest)
	case "DeleteRequestGroup":
		return invoke(ctx, row, &pb.DeleteRequestGroupRequest{}, s.interactions.DeleteRequestGroup)
	case "DeleteUser":
		return invoke(ctx, row, &pb.DeleteUserRequest{}, s.interactions.DeleteUser)
	case "GetImage":
		request, err := message(row.Request, &pb.GetImageRequest{})
		if err != nil {
			return err
		}
		_, err = s.image(ctx, request.GetInteractionId())
		return err
	}
	return fmt.Errorf("no RPC %s", row.RPC)
}

// invoke makes a unary call with the row's request.
func invoke[In, Out proto.Message, Option any](ctx context.Context, row row, request In, call func(context.Context, In, ...Option) (Out, error)) error {
	if err := protojson.Unmarshal(row.Request, request); err != nil {
		return err
	}
	_, err := call(ctx, request)
	return err
}

func (s *scenario) revokedKey(ctx context.Context, _ json.RawMessage) (any, error) {
	other := *s.client
	login, err := other.logIn(ctx, s.email, s.password)
	if err != nil {
		return nil, err
	}
	whoAmI := func() (*pb.WhoAmIResponse, error) {
		return s.auth.WhoAmI(withKey(ctx, other.key), &pb.WhoAmIRequest{})
	}
	revoke := func() (bool, error) {
		answer, err := s.auth.RevokeApiKey(withKey(ctx, s.key), &pb.RevokeApiKeyRequest{KeyId: login.GetKeyId()})
		return answer.GetApiKey().GetRevokedAt() != nil, err
	}
	before, err := whoAmI()
	if err != nil {
		return nil, err
	}
	revoked, err := revoke()
	if err != nil {
		return nil, err
	}
	_, failed := whoAmI()
	revokedAgain, err := revoke()
	if err != nil {
		return nil, err
	}
	keys, err := s.auth.ListApiKeys(withKey(ctx, s.key), &pb.ListApiKeysRequest{})
	listed := 0
	for _, key := range keys.GetApiKeys() {
		if key.GetRevokedAt() != nil {
			listed++
		}
	}
	return report{
		"before":            before.GetApiKey().GetKeyId() == login.GetKeyId(),
		"revoked":           revoked,
		"after":             failureOf(failed),
		"revoked_again":     revokedAgain,
		"listed_as_revoked": listed,
	}, err
}

func (s *scenario) trouble(ctx context.Context, raw json.RawMessage) (any, error) {
	var given struct {
		Publishes int
		Image     []byte
	}
	if err := json.Unmarshal(raw, &given); err != nil {
		return nil, err
	}
	c, err := dial(s.troubledAddress)
	if err != nil {
		return nil, err
	}
	defer c.conn.Close()
	if _, err := c.logIn(ctx, s.email, s.password); err != nil {
		return nil, err
	}
	stream, err := c.heldOpen(ctx, "holder", "held")
	if err != nil {
		return nil, err
	}
	if _, err := c.waitFor(ctx, "holder", 1); err != nil {
		return nil, err
	}
	reports := report{}
	_, failed := c.stream(ctx, slices.Values([]*pb.PublishInteractionsRequest{}))
	reports["no_free_stream"] = failureOf(failed)

	cause("block_writes")
	refused := c.publishAtOnce(ctx, "busy", given.Publishes)
	reports["queue_full"] = failureOf(refused[0])
	expected := given.Publishes - len(refused)
	stored, err := c.waitFor(ctx, "busy", expected)
	if err != nil {
		return nil, err
	}
	reports["all_answered"] = stored == expected

	cause("fill_disk")
	_, failed = c.publish(ctx, &pb.PublishInteractionsRequest{UserId: "u", Interactions: []*pb.InteractionData{{Image: given.Image}}})
	reports["disk_full"] = failureOf(failed)
	cause("free_disk")
	_, failed = c.interactions.SearchInteractions(withKey(ctx, c.key), &pb.SearchInteractionsRequest{Query: "x"})
	reports["unforeseen"] = failureOf(failed)
	cause("close_writer")
	_, failed = c.publish(ctx, say("late", "late"))
	reports["draining"] = failureOf(failed)
	cause("stop")
	verdict := &pb.PublishInteractionStreamResponse{}
	if err := stream.RecvMsg(verdict); err != nil {
		return nil, err
	}
	if reports["verdict"], err = asJSON(verdict); err != nil {
		return nil, err
	}
	_, failed = c.publish(ctx, say("late", "late"))
	reports["stopped"] = failureOf(failed).Code
	return reports, nil
}

// publishAtOnce publishes count requests concurrently and returns the errors.
func (c *client) publishAtOnce(ctx context.Context, userID string, count int) []error {
	var wait sync.WaitGroup
	var lock sync.Mutex
	var refused []error
	for i := range count {
		wait.Go(func() {
			if _, err := c.publish(ctx, say(userID, fmt.Sprintf("%s_%d", userID, i))); err != nil {
				lock.Lock()
				defer lock.Unlock()
				refused = append(refused, err)
			}
		})
	}
	wait.Wait()
	return refused
}

var replies = bufio.NewReader(os.Stdin)

// cause asks the test for some trouble, and waits until it is there.
func cause(trouble string) {
	fmt.Println(trouble)
	if _, err := replies.ReadString('\n'); err != nil {
		panic(err)
	}
}
