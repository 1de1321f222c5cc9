// Package bulk publishes any number of requests to Reflexio over client
// streams, and goes on where it was when a connection breaks.
package bulk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "github.com/reflexio/reflexio/gen/go/reflexio/v1"
)

const (
	// A verdict lists 1,000 rejections, so none of a segment's goes unlisted.
	segmentRequests = 1000
	segmentBytes    = 8 << 20
	// Of a message with several requests: beyond, packing saves little.
	packedBytes = 64 << 10
	// How often a request is sent at which the server itself fails.
	mostAttempts   = 8
	keptRejections = 1000
	firstWait      = 100 * time.Millisecond
	longestWait    = 5 * time.Second
)

// Options say how to publish; their zero value and nil mean the defaults.
type Options struct {
	// Patience is how long to go on without any progress, while the server
	// cannot be reached or is busy. Default 2 minutes.
	Patience time.Duration
	// OnProgress is called after each stream with the result so far.
	OnProgress func(Result)
	// OnRejection is called for each rejection: Result keeps the first 1,000.
	OnRejection func(Rejection)
}

// Counts say what became of a number of things.
type Counts struct {
	// Stored by this call.
	Stored int
	// Duplicate had been stored before, perhaps by an attempt of this very
	// call whose answer was lost.
	Duplicate int
	// Rejected will not be stored, however often it is sent.
	Rejected int
}

// Rejection is a request that was refused.
type Rejection struct {
	// Index is its position in the sequence given to Publish, from 0.
	Index int
	// RequestID is its id.
	RequestID string
	// Reason is the name of an ErrorReason of the contract, such as
	// "INVALID_FIELD", or of a gRPC code when a stream with this request alone
	// is refused.
	Reason string
	// Field is the field that is wrong; it may be empty.
	Field string
	// Message says what is wrong and what to do, for a person.
	Message string
}

// Result is what became of everything that is settled. What is not counted
// here may or may not be stored.
type Result struct {
	// Requests counts requests, and Interactions what is in them.
	Requests, Interactions Counts
	// Rejections are the first 1,000, in the order they became known.
	Rejections []Rejection
}

// Publish stores the requests, all but those that the server refuses.
//
// Requests go out in segments of up to 1,000 requests or 8 MiB, a stream for
// each, and no more than one segment is in memory; from the second stream on,
// several requests share a message where the server takes that. A segment whose
// stream breaks is sent again: what was stored counts as duplicate then. For
// this every request needs a request_id; one without gets a new one, in a copy.
//
// Publish waits and repeats while the server is away or busy, for as long as
// it is told in RetryInfo or, with jitter, for longer each time. The error
// says why it stopped before the end, and the Result holds until there.
func Publish(
	ctx context.Context,
	client pb.InteractionServiceClient,
	requests iter.Seq[*pb.PublishInteractionsRequest],
	options *Options,
) (Result, error) {
	p := publisher{client: client, perMessage: 1}
	if options != nil {
		p.options = *options
	}
	if p.options.Patience <= 0 {
		p.options.Patience = 2 * time.Minute
	}
	size, index := 0, 0
	for request := range requests {
		request := withID(request)
		p.rows = append(p.rows, row{index: index, request: request, size: proto.Size(request)})
		size += p.rows[len(p.rows)-1].size
		index++
		if len(p.rows) == segmentRequests || size >= segmentBytes {
			if err := p.settle(ctx); err != nil {
				return p.result, err
			}
			size = 0
		}
	}
	return p.result, p.settle(ctx)
}

func withID(request *pb.PublishInteractionsRequest) *pb.PublishInteractionsRequest {
	if request.GetRequestId() != "" {
		return request
	}
	request = proto.CloneOf(request)
	source := strings.ReplaceAll(request.GetSource(), "_", "-")
	if source == "" {
		source = "request"
	}
	request.RequestId = source + "_" + uuid.Must(uuid.NewV7()).String()
	return request
}

type row struct {
	index    int
	request  *pb.PublishInteractionsRequest
	size     int
	attempts int
}

type publisher struct {
	client  pb.InteractionServiceClient
	options Options
	result  Result
	rows    []row // of the segment at hand, those that are not settled
	// How many requests a message may carry. Until a verdict has said more, one:
	// a server of before takes a message with several for an empty one.
	perMessage int
}

// settle sends the segment until nothing of it is left.
func (p *publisher) settle(ctx context.Context) error {
	limit, wait := segmentRequests, firstWait
	lastProgress := time.Now()
	for len(p.rows) > 0 {
		left := time.Until(lastProgress.Add(p.options.Patience))
		batch := p.rows[:min(limit, len(p.rows))]
		// Half of what is left: a stream that hangs must leave time for another.
		verdict, err := p.send(ctx, batch, left/2)
		if err == nil {
			err = p.read(verdict, batch)
		}
		if err == nil {
			limit, wait, lastProgress = min(segmentRequests, limit*2), firstWait, time.Now()
			p.progress()
			continue
		}
		plan := planAfter(err)
		switch {
		case ctx.Err() != nil:
			return p.stopped(ctx.Err())
		case plan.hopeless:
			return p.stopped(err)
		case plan.poison && len(batch) == 1:
			p.reject(batch[0], Rejection{Reason: codeName(err), Message: status.Convert(err).Message()})
			p.rows = p.rows[1:]
			lastProgress = time.Now()
			p.progress()
			continue
		}
		if plan.halve {
			limit = max(1, len(batch)/2)
		}
		if plan.poison {
			continue
		}
		pause := plan.retryAfter + rand.N(wait) // full jitter, so that clients do not come back all at once
		if pause > left {
			return p.stopped(err)
		}
		select {
		case <-ctx.Done():
			return p.stopped(ctx.Err())
		case <-time.After(pause):
		}
		wait = min(longestWait, wait*2)
	}
	return nil
}

func (p *publisher) send(ctx context.Context, batch []row, limit time.Duration) (*pb.PublishInteractionStreamResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	stream, err := p.client.PublishInteractionStream(ctx)
	if err != nil {
		return nil, err
	}
	most := p.perMessage
	for _, message := range pack(batch, most) {
		err := stream.Send(message)
		if errors.Is(err, io.EOF) {
			break // the server has answered or the stream is broken: CloseAndRecv tells
		} else if err != nil {
			return nil, err
		}
	}
	verdict, err := stream.CloseAndRecv()
	if err != nil {
		return nil, err
	}
	p.perMessage = max(1, int(verdict.GetRequestsPerMessage()))
	if p.perMessage < most {
		return nil, errTakesFewer // and so its verdict is on others than were sent
	}
	return verdict, nil
}

// pack puts requests into messages, in their order.
func pack(batch []row, most int) []*pb.PublishInteractionStreamRequest {
	var messages []*pb.PublishInteractionStreamRequest
	size := 0 // of the last message
	for _, row := range batch {
		last := len(messages) - 1
		switch {
		case most == 1:
			messages = append(messages, &pb.PublishInteractionStreamRequest{Request: row.request})
		case last < 0 || len(messages[last].Requests) == most || size+row.size > packedBytes:
			messages = append(messages, &pb.PublishInteractionStreamRequest{Requests: []*pb.PublishInteractionsRequest{row.request}})
			size = row.size
		default:
			messages[last].Requests = append(messages[last].Requests, row.request)
			size += row.size
		}
	}
	return messages
}

// read takes the verdict on a batch; only what it leaves no doubt of is
// settled. It fails when the verdict settles nothing or contradicts itself.
func (p *publisher) read(verdict *pb.PublishInteractionStreamResponse, batch []row) error {
	counts := verdict.GetRequests()
	handled := int(counts.GetStored() + counts.GetDuplicate() + counts.GetRejected())
	listed := map[int]*pb.PublishRejection{}
	for _, rejection := range verdict.GetRejections() {
		listed[int(rejection.GetIndex())] = rejection
		if int(rejection.GetIndex()) >= handled {
			return errContradiction
		}
	}
	if handled > len(batch) || len(listed) > int(counts.GetRejected()) {
		return errContradiction
	}
	// When more was rejected than is listed, what is not listed may be either.
	certain := len(listed) == int(counts.GetRejected())
	if certain {
		p.result.Requests.Stored += int(counts.GetStored())
		p.result.Requests.Duplicate += int(counts.GetDuplicate())
		p.result.Interactions.Stored += int(verdict.GetInteractions().GetStored())
		p.result.Interactions.Duplicate += int(verdict.GetInteractions().GetDuplicate())
	}
	var rest []row
	for i, row := range batch {
		rejection := listed[i]
		switch {
		case rejection == nil && certain && i < handled:
			continue
		case rejection == nil || isTransient(rejection.GetReason()):
			rest = append(rest, row)
			continue
		case !isRefusal(rejection.GetReason()):
			if row.attempts++; row.attempts < mostAttempts {
				rest = append(rest, row)
				continue
			}
		}
		p.reject(row, Rejection{Reason: rejection.GetReason(), Field: rejection.GetField(), Message: rejection.GetMessage()})
	}
	p.rows = append(rest, p.rows[len(batch):]...)
	if len(rest) == len(batch) {
		return errNothingSettled
	}
	return nil
}

func (p *publisher) reject(row row, rejection Rejection) {
	rejection.Index, rejection.RequestID = row.index, row.request.GetRequestId()
	p.result.Requests.Rejected++
	p.result.Interactions.Rejected += len(row.request.GetInteractions())
	if len(p.result.Rejections) < keptRejections {
		p.result.Rejections = append(p.result.Rejections, rejection)
	}
	if p.options.OnRejection != nil {
		p.options.OnRejection(rejection)
	}
}

func (p *publisher) progress() {
	if p.options.OnProgress != nil {
		p.options.OnProgress(p.result)
	}
}

func (p *publisher) stopped(err error) error {
	counts := p.result.Requests
	return fmt.Errorf("bulk: stopped after %d settled requests: %w", counts.Stored+counts.Duplicate+counts.Rejected, err)
}
