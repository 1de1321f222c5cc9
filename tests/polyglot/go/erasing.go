package main

import (
	"context"
	"encoding/json"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "github.com/reflexio/reflexio/gen/go/reflexio/v1"
)

func (s *scenario) erasing(ctx context.Context, raw json.RawMessage) (any, error) {
	var given struct{ Requests []json.RawMessage }
	if err := json.Unmarshal(raw, &given); err != nil {
		return nil, err
	}
	var requests []*pb.PublishInteractionsRequest
	var answers []*pb.PublishInteractionsResponse
	for _, raw := range given.Requests {
		request, err := message(raw, &pb.PublishInteractionsRequest{})
		if err != nil {
			return nil, err
		}
		answer, err := s.publish(ctx, request)
		if err != nil {
			return nil, err
		}
		requests, answers = append(requests, request), append(answers, answer)
	}
	partly, whole, threaded := requests[0], requests[1], requests[2]
	user := partly.GetUserId()
	first := answers[0].GetInteractionIds()
	keyed := withKey(ctx, s.key)
	reports := report{}

	erased, err := s.interactions.DeleteInteraction(keyed, &pb.DeleteInteractionRequest{UserId: &user, InteractionId: first[0]})
	if err := reported(reports, "interaction", erased, err); err != nil {
		return nil, err
	}
	again, err := s.publish(ctx, partly)
	if err != nil {
		return nil, err
	}
	reports["replayed"] = again.GetReplayed()
	reports["same_ids"] = slices.Equal(again.GetInteractionIds(), first)
	request, err := s.interactions.DeleteRequest(keyed, &pb.DeleteRequestRequest{RequestId: whole.GetRequestId()})
	if err := reported(reports, "request", request, err); err != nil {
		return nil, err
	}
	_, failed := s.publish(ctx, whole)
	reports["erased_request"] = failureOf(failed)
	verdict, err := s.stream(ctx, slices.Values([]*pb.PublishInteractionsRequest{whole, partly}))
	if err := reported(reports, "in_stream", verdict, err); err != nil {
		return nil, err
	}
	group, err := s.interactions.DeleteRequestGroup(keyed, &pb.DeleteRequestGroupRequest{UserId: user, RequestGroup: threaded.GetRequestGroup()})
	if err := reported(reports, "request_group", group, err); err != nil {
		return nil, err
	}
	left, err := s.listed(ctx, &pb.GetInteractionsRequest{UserId: &user})
	if err != nil {
		return nil, err
	}
	reports["left"] = contents(left)
	everything, err := s.interactions.DeleteUser(keyed, &pb.DeleteUserRequest{UserId: user})
	if err := reported(reports, "user", everything, err); err != nil {
		return nil, err
	}
	_, failed = s.interactions.DeleteUser(keyed, &pb.DeleteUserRequest{UserId: user})
	reports["again"] = failureOf(failed)
	return reports, nil
}

// reported puts an answer into the report, or returns the error of its call.
func reported(reports report, name string, answer proto.Message, err error) error {
	if err == nil {
		reports[name], err = asJSON(answer)
	}
	return err
}
