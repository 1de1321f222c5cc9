package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sort"

	pb "github.com/reflexio/reflexio/gen/go/reflexio/v1"
)

// report is what a section reports; its keys are the scenario's.
type report = map[string]any

type scenario struct {
	*client
	troubledAddress string
	email, password string
	keyID           string
}

func runScenario(ctx context.Context, address, troubledAddress, path string) (any, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var sections map[string]struct{ Given json.RawMessage }
	if err := json.Unmarshal(raw, &sections); err != nil {
		return nil, err
	}
	c, err := dial(address)
	if err != nil {
		return nil, err
	}
	defer c.conn.Close()
	s := &scenario{client: c, troubledAddress: troubledAddress, email: os.Getenv("REFLEXIO_EMAIL"), password: os.Getenv("REFLEXIO_PASSWORD")}
	steps := []struct {
		name string
		run  func(context.Context, json.RawMessage) (any, error)
	}{
		{"login", s.login},
		{"who_am_i", s.whoAmI},
		{"images", s.images},
		{"unicode", s.unicode},
		{"replay", s.replay},
		{"stream", s.streaming},
		{"malformed_in_stream", s.malformedInStream},
		{"search", s.search},
		{"paging", s.paging},
		{"threads", s.threads},
		{"errors", s.errors},
		{"erasing", s.erasing},
		{"deadline", s.deadline},
		{"cancellation", s.cancellation},
		{"revoked_key", s.revokedKey},
		{"trouble", s.trouble},
	}
	reports := report{}
	for _, step := range steps {
		if reports[step.name], err = step.run(ctx, sections[step.name].Given); err != nil {
			return nil, fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return reports, nil
}

func (s *scenario) login(ctx context.Context, _ json.RawMessage) (any, error) {
	login, err := s.logIn(ctx, s.email, s.password)
	if err != nil {
		return nil, err
	}
	s.keyID = login.GetKeyId()
	return report{"key_prefix": login.GetApiKey()[:5], "key_length": len(login.GetApiKey())}, nil
}

func (s *scenario) whoAmI(ctx context.Context, _ json.RawMessage) (any, error) {
	me, err := s.auth.WhoAmI(withKey(ctx, s.key), &pb.WhoAmIRequest{})
	return report{
		"same_email": me.GetAccount().GetEmail() == s.email,
		"same_key":   me.GetApiKey().GetKeyId() == s.keyID,
		"revoked":    me.GetApiKey().GetRevokedAt() != nil,
	}, err
}

func (s *scenario) images(ctx context.Context, raw json.RawMessage) (any, error) {
	var given struct{ Request json.RawMessage }
	if err := json.Unmarshal(raw, &given); err != nil {
		return nil, err
	}
	request, err := message(given.Request, &pb.PublishInteractionsRequest{})
	if err != nil {
		return nil, err
	}
	answer, err := s.publish(ctx, request)
	if err != nil {
		return nil, err
	}
	stored, err := s.listed(ctx, &pb.GetInteractionsRequest{UserId: &request.UserId, IncludeImages: true})
	if err != nil {
		return nil, err
	}
	var images []report
	for i, found := range stored {
		sent, image := request.GetInteractions()[i].GetImage(), found.GetImage()
		chunks, err := s.image(withKey(ctx, s.key), found.GetInteractionId())
		if err != nil {
			return nil, err
		}
		sizes := []int{}
		for _, chunk := range chunks {
			sizes = append(sizes, len(chunk))
		}
		sum := sha256.Sum256(sent)
		images = append(images, report{
			"content":       found.GetContent(),
			"media_type":    image.GetMediaType(),
			"width":         image.GetWidth(),
			"height":        image.GetHeight(),
			"size_bytes":    image.GetSizeBytes(),
			"data_omitted":  image.GetDataOmitted(),
			"bytes_in_page": len(image.GetData()),
			"same_sha256":   bytes.Equal(image.GetSha256(), sum[:]),
			"chunks":        sizes,
			"same_bytes":    bytes.Equal(bytes.Join(chunks, nil), sent) && (len(image.GetData()) == 0 || bytes.Equal(image.GetData(), sent)),
		})
	}
	return report{
		"published":  len(answer.GetInteractionIds()),
		"replayed":   answer.GetReplayed(),
		"searchable": answer.GetSearchable(),
		"images":     images,
	}, nil
}

func (s *scenario) unicode(ctx context.Context, raw json.RawMessage) (any, error) {
	var given struct {
		UserID    string `json:"user_id"`
		RequestID string `json:"request_id"`
		Texts     []string
	}
	if err := json.Unmarshal(raw, &given); err != nil {
		return nil, err
	}
	request := &pb.PublishInteractionsRequest{UserId: given.UserID, RequestId: given.RequestID}
	for _, text := range given.Texts {
		request.Interactions = append(request.Interactions, &pb.InteractionData{Content: text})
	}
	if _, err := s.publish(ctx, request); err != nil {
		return nil, err
	}
	stored, err := s.listed(ctx, &pb.GetInteractionsRequest{UserId: &given.UserID})
	if err != nil {
		return nil, err
	}
	return report{
		"user_id":    stored[0].GetUserId(),
		"request_id": stored[0].GetRequestId(),
		"contents":   contents(stored),
	}, nil
}

func (s *scenario) replay(ctx context.Context, raw json.RawMessage) (any, error) {
	var given struct {
		Request         json.RawMessage
		PublishedBefore json.RawMessage `json:"published_before"`
	}
	if err := json.Unmarshal(raw, &given); err != nil {
		return nil, err
	}
	var answers []*pb.PublishInteractionsResponse
	for _, raw := range []json.RawMessage{given.Request, given.Request, given.PublishedBefore} {
		request, err := message(raw, &pb.PublishInteractionsRequest{})
		if err != nil {
			return nil, err
		}
		answer, err := s.publish(ctx, request)
		if err != nil {
			return nil, err
		}
		answers = append(answers, answer)
	}
	return report{
		"first_replayed":            answers[0].GetReplayed(),
		"again_replayed":            answers[1].GetReplayed(),
		"same_ids":                  slices.Equal(answers[0].GetInteractionIds(), answers[1].GetInteractionIds()),
		"published_before_replayed": answers[2].GetReplayed(),
	}, nil
}

func (s *scenario) search(ctx context.Context, raw json.RawMessage) (any, error) {
	var given struct {
		Requests []json.RawMessage
		Searches []struct {
			Name    string
			Request json.RawMessage
		}
	}
	if err := json.Unmarshal(raw, &given); err != nil {
		return nil, err
	}
	for _, raw := range given.Requests {
		request, err := message(raw, &pb.PublishInteractionsRequest{})
		if err != nil {
			return nil, err
		}
		if _, err := s.publish(ctx, request); err != nil {
			return nil, err
		}
	}
	reports := report{}
	for _, one := range given.Searches {
		request, err := message(one.Request, &pb.SearchInteractionsRequest{})
		if err != nil {
			return nil, err
		}
		found, err := s.interactions.SearchInteractions(withKey(ctx, s.key), request)
		if err != nil {
			return nil, err
		}
		texts := []string{}
		for _, hit := range found.GetHits() {
			texts = append(texts, hit.GetInteraction().GetContent())
		}
		reports[one.Name] = report{
			"contents":        texts,
			"unindexed_count": found.GetUnindexedCount(),
			"scores_fall": sort.SliceIsSorted(found.GetHits(), func(i, j int) bool {
				return found.Hits[i].GetScore() > found.Hits[j].GetScore()
			}),
		}
	}
	return reports, nil
}

func (s *scenario) paging(ctx context.Context, raw json.RawMessage) (any, error) {
	var given struct {
		UserID       string `json:"user_id"`
		Requests     int
		Interactions int
		PageSize     uint32 `json:"page_size"`
	}
	if err := json.Unmarshal(raw, &given); err != nil {
		return nil, err
	}
	for i := range given.Requests {
		request := &pb.PublishInteractionsRequest{UserId: given.UserID}
		for j := range given.Interactions {
			line := fmt.Sprintf("line %d", i*given.Interactions+j)
			request.Interactions = append(request.Interactions, &pb.InteractionData{Content: line})
		}
		if _, err := s.publish(ctx, request); err != nil {
			return nil, err
		}
	}
	const late = "after the first page"
	read := func(order pb.Order, requestID string) (pages [][]string, err error) {
		request := &pb.GetInteractionsRequest{UserId: &given.UserID, PageSize: given.PageSize, Order: order}
		for page, err := range s.pages(ctx, request) {
			if err != nil {
				return nil, err
			}
			if pages = append(pages, contents(page)); len(pages) == 1 && requestID != "" {
				if _, err := s.publish(ctx, say(given.UserID, requestID)); err != nil {
					return nil, err
				}
			}
		}
		return pages, nil
	}
	newestFirst, err := read(pb.Order_ORDER_UNSPECIFIED, "")
	if err != nil {
		return nil, err
	}
	oldestFirst, err := read(pb.Order_ORDER_OLDEST_FIRST, late)
	if err != nil {
		return nil, err
	}
	sizes := []int{}
	for _, page := range oldestFirst {
		sizes = append(sizes, len(page))
	}
	everything, err := s.listed(ctx, &pb.GetInteractionsRequest{PageSize: 1000})
	if err != nil {
		return nil, err
	}
	ids := map[string]bool{}
	for _, item := range everything {
		ids[item.GetInteractionId()] = true
	}
	lines := slices.Concat(oldestFirst...)
	return report{
		"page_sizes":    sizes,
		"contents":      lines,
		"newest_first":  slices.Concat(newestFirst...),
		"late_in_pages": slices.Contains(lines, late),
		"everything":    len(everything),
		"distinct":      len(ids),
	}, nil
}

func (s *scenario) threads(ctx context.Context, raw json.RawMessage) (any, error) {
	var given struct {
		Requests []json.RawMessage
		Reads    []struct {
			Name    string
			Request json.RawMessage
		}
	}
	if err := json.Unmarshal(raw, &given); err != nil {
		return nil, err
	}
	for _, raw := range given.Requests {
		request, err := message(raw, &pb.PublishInteractionsRequest{})
		if err != nil {
			return nil, err
		}
		if _, err := s.publish(ctx, request); err != nil {
			return nil, err
		}
	}
	reports := report{}
	for _, one := range given.Reads {
		request, err := message(one.Request, &pb.GetRequestsRequest{})
		if err != nil {
			return nil, err
		}
		pages, err := s.threadPages(ctx, request)
		if err != nil {
			return nil, err
		}
		reports[one.Name] = pages
	}
	return reports, nil
}

// threadPages are the threads of each page, with what was said in each request.
func (s *scenario) threadPages(ctx context.Context, request *pb.GetRequestsRequest) ([][]report, error) {
	var pages [][]report
	for {
		page, err := s.interactions.GetRequests(withKey(ctx, s.key), request)
		if err != nil {
			return nil, err
		}
		threads := []report{}
		for _, group := range page.GetRequestGroups() {
			requests := [][]string{}
			for _, one := range group.GetRequests() {
				requests = append(requests, contents(one.GetInteractions()))
			}
			threads = append(threads, report{"request_group": group.GetRequestGroup(), "requests": requests})
		}
		pages = append(pages, threads)
		if page.GetNextPageToken() == "" {
			return pages, nil
		}
		request.PageToken = page.GetNextPageToken()
	}
}

func contents(items []*pb.Interaction) []string {
	texts := []string{}
	for _, item := range items {
		texts = append(texts, item.GetContent())
	}
	return texts
}
